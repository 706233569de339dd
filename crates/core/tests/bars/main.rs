//! Bars on recorded data: `tests/data` of the repository, or the folder `FORECASTD_DATA`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail loudly")]

mod faults;
mod recorded;
mod support;
