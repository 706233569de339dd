//! Finds the last lines of a file from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::{BLOCK, LineFilter, MAX_LINE};

/// Returns the offset at which the last `wanted` admitted lines begin, and how many there are.
///
/// A last line without a line break is not counted; it comes after the offset.
pub(super) fn last_lines(
    file: &File,
    wanted: usize,
    filter: &LineFilter,
) -> io::Result<(u64, usize)> {
    let mut unread = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    // What was read of the line whose beginning is still to be found.
    let mut rest: Vec<u8> = Vec::new();
    let mut start = unread;
    let mut found = 0;
    let mut is_past_last_break = false;
    while unread > 0 {
        let from = unread.saturating_sub(BLOCK as u64);
        let count = usize::try_from(unread - from).unwrap_or(BLOCK);
        let Some(bytes) = block.get_mut(..count) else { break };
        match file.read_exact_at(bytes, from) {
            Ok(()) => {}
            // Truncated meanwhile: begin with what is there now.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((0, 0)),
            Err(error) => return Err(error),
        }
        let mut head = &*bytes;
        while let Some(at) = head.iter().rposition(|byte| *byte == b'\n') {
            let (before, after) = head.split_at(at);
            let begins = from + at as u64 + 1;
            if is_past_last_break {
                prepend(after.get(1..).unwrap_or_default(), &mut rest);
                if filter.admits(&String::from_utf8_lossy(&rest)) {
                    found += 1;
                    start = begins;
                }
            } else {
                is_past_last_break = true;
                start = begins;
            }
            if found == wanted {
                return Ok((start, found));
            }
            rest.clear();
            head = before;
        }
        prepend(head, &mut rest);
        unread = from;
    }
    if !is_past_last_break {
        return Ok((0, 0));
    }
    if filter.admits(&String::from_utf8_lossy(&rest)) {
        return Ok((0, found + 1));
    }
    Ok((start, found))
}

/// Puts `bytes` before `rest`; what goes beyond the longest line falls off the end.
fn prepend(bytes: &[u8], rest: &mut Vec<u8>) {
    let head = bytes.get(..MAX_LINE).unwrap_or(bytes);
    rest.splice(..0, head.iter().copied());
    rest.truncate(MAX_LINE);
}
