//! The telnet protocol (RFC 854), as far as a character device needs it: options are offered, never negotiated.

/// `IAC`: a command follows.
const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
/// `SB`: a sub-negotiation follows, up to `SE`.
const SB: u8 = 250;
const SE: u8 = 240;
/// `BRK`: the break key.
const BRK: u8 = 243;
/// Option: binary transmission (RFC 856).
const BINARY: u8 = 0;
/// Option: echo (RFC 857).
const ECHO: u8 = 1;
/// Option: suppress go ahead (RFC 858).
const SUPPRESS_GO_AHEAD: u8 = 3;

/// What a client is told first: this end echoes, sends without turns, and both ends send all eight bits.
pub(super) const GREETING: &[u8] = &[
    IAC,
    WILL,
    ECHO,
    IAC,
    WILL,
    SUPPRESS_GO_AHEAD,
    IAC,
    WILL,
    BINARY,
    IAC,
    DO,
    BINARY,
];

/// The state between two reads.
#[derive(Debug, Default)]
pub(super) struct Telnet {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Data,
    Command,
    Option,
    Subnegotiation,
    SubnegotiationCommand,
}

impl Telnet {
    /// The data in `bytes`, and how many breaks came.
    pub(super) fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let mut data = Vec::with_capacity(bytes.len());
        let mut breaks = 0;
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Data, IAC) => State::Command,
                (State::Data, _) | (State::Command, IAC) => {
                    data.push(byte);
                    State::Data
                }
                (State::Command, WILL | WONT | DO | DONT) => State::Option,
                (State::Command, SB) => State::Subnegotiation,
                (State::Command, BRK) => {
                    breaks += 1;
                    State::Data
                }
                (State::Subnegotiation, IAC) => State::SubnegotiationCommand,
                (State::Subnegotiation, _) => State::Subnegotiation,
                (State::SubnegotiationCommand, SE) | (State::Command | State::Option, _) => State::Data,
                (State::SubnegotiationCommand, _) => State::Subnegotiation,
            };
        }
        (data, breaks)
    }
}

/// `bytes` with every 255 doubled.
pub(super) fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        escaped.push(byte);
        if byte == IAC {
            escaped.push(IAC);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_out_even_across_reads() {
        let mut telnet = Telnet::default();
        assert_eq!(telnet.filter(&[b'a', IAC, DO]), (b"a".to_vec(), 0));
        assert_eq!(telnet.filter(&[ECHO, b'b', IAC, IAC, IAC, BRK]), (vec![b'b', IAC], 1));
        assert_eq!(telnet.filter(&[IAC, SB, 31, 0, 80, IAC, SE, b'c']), (b"c".to_vec(), 0));
        assert_eq!(escape(&[1, IAC, 2]), [1, IAC, IAC, 2]);
    }
}
