//! The queue that compressed bytes enter by. The writer never blocks: it is told by a call-back when there is room.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::LayerError;

/// Bytes that may wait before a writer is told to wait too.
const CAPACITY: usize = 1024 * 1024;

pub(super) type OnRoom = Box<dyn FnOnce(Result<(), LayerError>) + Send>;

pub(super) enum Popped {
    Chunk(Vec<u8>),
    End,
    Closed,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
    ended: bool,
    /// Nothing is taken any more: the pipeline's failure, or the cancellation.
    closed: Option<LayerError>,
    waiting: Vec<OnRoom>,
}

#[derive(Default)]
pub(super) struct Input {
    state: Mutex<State>,
    filled: Condvar,
}

impl Input {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, chunk: Vec<u8>, on_room: OnRoom) {
        let answer = {
            let mut state = self.lock();
            if let Some(error) = &state.closed {
                Err(error.clone())
            } else if state.ended {
                Err(LayerError::Invalid {
                    op: "write",
                    path: String::new(),
                    reason: "write after the end of the layer".into(),
                })
            } else {
                state.bytes += chunk.len();
                state.chunks.push_back(chunk);
                self.filled.notify_one();
                if state.bytes > CAPACITY {
                    state.waiting.push(on_room);
                    return;
                }
                Ok(())
            }
        };
        on_room(answer);
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.filled.notify_one();
    }

    /// Waits for bytes, the end, or the close.
    pub(super) fn pop(&self) -> Popped {
        let (popped, told) = {
            let mut state = self.lock();
            loop {
                if state.closed.is_some() {
                    return Popped::Closed;
                }
                if let Some(chunk) = state.chunks.pop_front() {
                    state.bytes -= chunk.len();
                    let told = if state.bytes <= CAPACITY { std::mem::take(&mut state.waiting) } else { Vec::new() };
                    break (chunk, told);
                }
                if state.ended {
                    return Popped::End;
                }
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        };
        for on_room in told {
            on_room(Ok(()));
        }
        Popped::Chunk(popped)
    }

    /// Drops what waits and answers every writer, now and later, with `error`. The first call decides.
    pub(super) fn close(&self, error: LayerError) {
        let (waiting, error) = {
            let mut state = self.lock();
            state.chunks.clear();
            state.bytes = 0;
            let error = state.closed.get_or_insert(error).clone();
            self.filled.notify_one();
            (std::mem::take(&mut state.waiting), error)
        };
        for on_room in waiting {
            on_room(Err(error.clone()));
        }
    }
}
