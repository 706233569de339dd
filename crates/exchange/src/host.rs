//! Further hosts of an exchange, for when one refuses this machine.

/// Another pair of hosts with the same messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Scheme and host of the WebSocket, a value of `ws_url`.
    pub ws_url: &'static str,
    /// Scheme and host of the REST interface, a value of `rest_url`.
    pub rest_url: &'static str,
    /// What is different there.
    pub note: &'static str,
}

/// Says what to do when a host refuses this machine.
pub(crate) fn advice(hosts: &[Host]) -> String {
    if hosts.is_empty() {
        return "use a `proxy`".to_owned();
    }
    let named: Vec<String> = hosts
        .iter()
        .map(|host| {
            format!("`ws_url` {} with `rest_url` {} ({})", host.ws_url, host.rest_url, host.note)
        })
        .collect();
    format!("use a `proxy`, or another host: {}", named.join(", or "))
}
