//! The events of the block that is being made, as `System.Events` holds them.

use parity_scale_codec::Encode;

use super::names::EventName;
use super::runtime::{Runtime, compact_length};

/// Events in emission order; the ones of a rolled-back call can be taken back.
#[derive(Debug, Default)]
pub(super) struct Events {
    records: Vec<Vec<u8>>,
    /// Index of the extrinsic that runs; `None` in the hooks before the first.
    extrinsic: Option<u32>,
}

impl Events {
    /// Says to which extrinsic the following events belong.
    pub(super) fn enter_extrinsic(&mut self, index: u32) {
        self.extrinsic = Some(index);
    }

    /// Adds an event whose fields are `fields`, one after the other.
    pub(super) fn emit(&mut self, runtime: &Runtime, event: EventName, fields: &impl Encode) {
        let mut record = match self.extrinsic {
            Some(index) => {
                let mut phase = vec![0];
                index.encode_to(&mut phase);
                phase
            }
            None => vec![2],
        };
        record.extend(runtime.event(event));
        fields.encode_to(&mut record);
        record.push(0); // no topics
        self.records.push(record);
    }

    /// Returns how many events there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes back all but the first `length` events.
    pub(super) fn truncate(&mut self, length: usize) {
        self.records.truncate(length);
    }

    /// Returns the SCALE `Vec<EventRecord>`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoded = compact_length(self.records.len());
        for record in &self.records {
            encoded.extend_from_slice(record);
        }
        encoded
    }
}
