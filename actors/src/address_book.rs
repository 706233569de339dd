//! Who handles a message now.
//!
//! Senders look the recipient up for each send and keep no address, so an actor that was built
//! anew is reached without telling anybody.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};

use crate::error::ActorError;

/// The current recipient of each message type of one tree.
#[derive(Default)]
pub struct AddressBook(RwLock<HashMap<TypeId, Box<dyn Any + Send + Sync>>>);

impl std::fmt::Debug for AddressBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        write!(f, "AddressBook({known} message types)")
    }
}

impl AddressBook {
    /// Makes `address` the recipient of `M`.
    pub fn publish<A, M>(&self, address: &Addr<A>)
    where
        A: Actor + Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let recipient: Recipient<M> = address.clone().recipient();
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        book.insert(TypeId::of::<M>(), Box::new(recipient));
    }

    /// Forgets all recipients, so that a stopped tree is not reached any more.
    pub fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn find<M>(&self) -> Result<Recipient<M>, ActorError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let recipient = book.get(&TypeId::of::<M>()).and_then(|any| any.downcast_ref());
        recipient.cloned().ok_or(ActorError::NoRecipient(type_name::<M>()))
    }

    /// Sends a message that must arrive and waits for its answer, at most `deadline` of real time.
    ///
    /// # Errors
    /// [`ActorError::NoRecipient`], [`ActorError::Deadline`], or [`ActorError::Closed`] when the
    /// actor died with the message: the outcome is unknown then, ask the state before a retry.
    pub async fn ask<M>(&self, message: M, deadline: Duration) -> Result<M::Result, ActorError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.find::<M>()?.send(message).timeout(deadline).await {
            Ok(answer) => Ok(answer),
            Err(actix::MailboxError::Timeout) => Err(ActorError::Deadline(type_name::<M>())),
            Err(actix::MailboxError::Closed) => Err(ActorError::Closed(type_name::<M>())),
        }
    }

    /// Sends a message that may be lost: refused when the mailbox is full or the actor away.
    ///
    /// # Errors
    /// [`ActorError::NoRecipient`], [`ActorError::Full`] or [`ActorError::Closed`]; the caller
    /// counts or logs it.
    pub fn tell<M>(&self, message: M) -> Result<(), ActorError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.find::<M>()?.try_send(message) {
            Ok(()) => Ok(()),
            Err(actix::prelude::SendError::Full(_)) => Err(ActorError::Full(type_name::<M>())),
            Err(actix::prelude::SendError::Closed(_)) => Err(ActorError::Closed(type_name::<M>())),
        }
    }
}
