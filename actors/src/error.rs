//! What can go wrong in an actor, and whether it has to be restarted for it.

/// Any error of another crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of an actor or of a message to one.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// A step failed; the actor's state is whole and it goes on.
    #[error("{what}: {source}")]
    Step {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// A step failed in a way that leaves the actor's memory behind the store: restart it.
    #[error("{what}: {source}")]
    Broken {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// The handler panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The request cannot be answered now; try again later.
    #[error("not ready: {0}")]
    NotReady(&'static str),
    /// The caller asks more often than it may.
    #[error("too many questions: at most {limit} an hour")]
    TooMany {
        /// How many it may ask.
        limit: u32,
    },
    /// Nobody handles the message: the actor is not part of this tree or not started yet.
    #[error("no actor handles {0} now")]
    NoRecipient(&'static str),
    /// No answer in time.
    #[error("no answer to {0} within its deadline")]
    Deadline(&'static str),
    /// The actor died with the message; the outcome is unknown.
    #[error("actor restarted while it handled {0}")]
    Closed(&'static str),
    /// The mailbox is full.
    #[error("mailbox full, {0} dropped")]
    Full(&'static str),
}

impl ActorError {
    /// Wraps a failed step after which the actor goes on.
    pub fn step(what: &'static str) -> impl FnOnce(BoxError) -> Self {
        move |source| Self::Step { what, source }
    }

    /// Tells whether the actor has to be restarted.
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Panicked(_))
    }

    /// Tells whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::Panicked(_))
    }
}

/// Returns an error's text with all its causes, each once.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// Adds "what was tried" to any error.
pub trait StepContext<T> {
    /// The actor goes on after this error.
    ///
    /// # Errors
    /// [`ActorError::Step`] around the source.
    fn step(self, what: &'static str) -> Result<T, ActorError>;

    /// The actor is restarted after this error.
    ///
    /// # Errors
    /// [`ActorError::Broken`] around the source.
    fn broken(self, what: &'static str) -> Result<T, ActorError>;
}

impl<T, E: Into<BoxError>> StepContext<T> for Result<T, E> {
    fn step(self, what: &'static str) -> Result<T, ActorError> {
        self.map_err(|source| ActorError::Step { what, source: source.into() })
    }

    fn broken(self, what: &'static str) -> Result<T, ActorError> {
        self.map_err(|source| ActorError::Broken { what, source: source.into() })
    }
}
