//! The changing part of a line, in one atomic word.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum State {
    Dialing,
    Open,
    /// Takes no new request; closed with the last one.
    Retired,
    /// The dial failed.
    Failed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub state: State,
    /// Requests that hold it.
    pub active: u16,
    /// Those, and earlier ones, whose responses may have held an empty DATA frame.
    pub suspect: u8,
    /// Requests it may still take.
    pub left: u32,
}

impl Word {
    pub fn is_over(self) -> bool {
        matches!(self.state, State::Retired | State::Failed)
    }

    pub fn pack(self) -> u64 {
        let state = match self.state {
            State::Dialing => 0,
            State::Open => 1,
            State::Retired => 2,
            State::Failed => 3,
        };
        state
            | u64::from(self.active) << 2
            | u64::from(self.suspect) << 18
            | u64::from(self.left) << 26
    }

    pub fn unpack(bits: u64) -> Self {
        // Each part is masked to its width.
        Self {
            state: match bits & 3 {
                0 => State::Dialing,
                1 => State::Open,
                2 => State::Retired,
                _ => State::Failed,
            },
            active: (bits >> 2) as u16,
            suspect: (bits >> 18) as u8,
            left: (bits >> 26) as u32,
        }
    }
}
