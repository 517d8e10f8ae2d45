//! One queue of a back end, and how a card exchanges frames with it.
//!
//! A frame begins with the header of [`HEADER_LEN`](super::HEADER_LEN) bytes.

use std::io;
use std::sync::Arc;

use super::Frame;
use super::datagram::{self, Datagram};
use super::stream::{self, Stream};
use super::tap::{self, Tap};
use crate::io::Handle;

/// A queue.
#[derive(Clone, Debug)]
pub enum Port {
    /// Of an interface of the host.
    Tap(Arc<Tap>),
    /// A datagram for each frame.
    Datagram(Arc<Datagram>),
    /// A stream of frames.
    Stream(Arc<Stream>),
}

/// Where frames come in.
#[derive(Debug)]
pub enum Receiver {
    /// From an interface of the host.
    Tap(tap::TapReceiver),
    /// As datagrams.
    Datagram(datagram::DatagramReceiver),
    /// From a stream.
    Stream(stream::StreamReceiver),
}

/// Where frames go.
#[derive(Debug)]
pub enum Transmitter {
    /// To an interface of the host.
    Tap(tap::TapTransmitter),
    /// As datagrams.
    Datagram(datagram::DatagramTransmitter),
    /// Into a stream.
    Stream(stream::StreamTransmitter),
}

impl Port {
    /// A receiver for what runs on this loop. There should be one at a time: each frame goes to one of them.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn receiver(&self, on: &Handle) -> io::Result<Receiver> {
        Ok(match self {
            Self::Tap(tap) => Receiver::Tap(tap.receiver(on)?),
            Self::Datagram(socket) => Receiver::Datagram(socket.receiver(on)?),
            Self::Stream(stream) => Receiver::Stream(stream.receiver(on)),
        })
    }

    /// A transmitter for what runs on this loop.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn transmitter(&self, on: &Handle) -> io::Result<Transmitter> {
        Ok(match self {
            Self::Tap(tap) => Transmitter::Tap(tap.transmitter(on)?),
            Self::Datagram(socket) => Transmitter::Datagram(socket.transmitter(on)?),
            Self::Stream(stream) => Transmitter::Stream(stream.transmitter(on)),
        })
    }

    /// The interface of the host, if it is one of that.
    #[must_use]
    pub fn tap(&self) -> Option<&Tap> {
        match self {
            Self::Tap(tap) => Some(tap),
            Self::Datagram(_) | Self::Stream(_) => None,
        }
    }
}

impl Receiver {
    /// Waits for the next frame, which takes the place of what was in `frame`.
    ///
    /// # Errors
    /// What the system said. The next frame may come all the same.
    pub async fn receive(&mut self, frame: &mut Frame) -> io::Result<()> {
        match self {
            Self::Tap(tap) => tap.receive(frame).await,
            Self::Datagram(socket) => socket.receive(frame).await,
            Self::Stream(stream) => stream.receive(frame).await,
        }
    }
}

impl Transmitter {
    /// Sends a frame, and waits until there is room for that. Nobody knows whether it arrives.
    ///
    /// # Errors
    /// The system did not take the frame, which is lost.
    pub async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match self {
            Self::Tap(tap) => tap.send(frame).await,
            Self::Datagram(socket) => socket.send(frame).await,
            Self::Stream(stream) => stream.send(frame).await,
        }
    }
}
