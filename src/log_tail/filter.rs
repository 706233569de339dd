//! Which lines of the log are wanted.

use serde::Deserialize;

use crate::config::LogLevel;

/// Keeps lines by level and actor; the default keeps all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineFilter {
    /// This severity or worse.
    pub level: Option<LogLevel>,
    /// Lines of this actor only.
    pub actor: Option<String>,
}

/// What the filter needs of a line.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    level: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    actor: Option<std::borrow::Cow<'a, str>>,
}

/// Returns the actor of a line; none when it is no JSON object with one.
pub fn actor_of(line: &str) -> Option<String> {
    let head = serde_json::from_str::<Head<'_>>(line).ok()?;
    head.actor.map(std::borrow::Cow::into_owned)
}

impl LineFilter {
    /// Tells whether the line is wanted. A line that is no JSON object has neither level nor actor:
    /// it passes only a filter that asks for neither.
    pub fn admits(&self, line: &str) -> bool {
        if self.level.is_none() && self.actor.is_none() {
            return true;
        }
        let Ok(head) = serde_json::from_str::<Head<'_>>(line) else { return false };
        let is_severe = self.level.is_none_or(|least| {
            let level = head.level.as_deref();
            let known = LogLevel::ALL.iter().find(|known| Some(known.as_str()) == level);
            known.is_some_and(|known| *known <= least)
        });
        let is_actor = self.actor.is_none() || self.actor.as_deref() == head.actor.as_deref();
        is_severe && is_actor
    }
}
