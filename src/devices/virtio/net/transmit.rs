//! Frames that go out.

use std::io;
use std::sync::Arc;

use super::card::Card;
use super::settings::Sending;
use crate::devices::virtio::{Taken, Virtqueue};
use crate::io::Handle;
use crate::net::{HEADER_LEN, MAX_FRAME, Port, Transmitter};

/// Why a driver's frame cannot be sent, nor any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum FrameError {
    #[error("virtio-net header not in first element")]
    NoHeader,
    #[error("virtio-net header incorrect")]
    ShortHeader,
}

/// Sends what the driver offers, for ever.
pub(super) async fn run(card: Arc<Card>, pair: u16, port: Option<Port>, on: Handle) {
    let Some(queue) = card.queue(2 * usize::from(pair) + 1) else {
        return;
    };
    if let Err(error) = serve(&card, pair, queue, port, &on).await {
        tracing::error!(%error, pair, "a network card sends nothing any more");
    }
}

async fn serve(card: &Card, pair: u16, queue: &Virtqueue, port: Option<Port>, on: &Handle) -> io::Result<()> {
    let rung = on.counter(queue.doorbell().event())?;
    let mut transmitter = port.map(|port| port.transmitter(on)).transpose()?;
    let mut frame = Vec::new();
    let mut sent = 0_usize;
    loop {
        while let Some(frame) = (pair == 0).then(|| card.take_injected()).flatten() {
            send(card, transmitter.as_mut(), &frame).await;
        }
        if !queue.has_buffer() {
            rung.take().await?;
            if let Sending::After(wait) = card.settings.sending {
                on.sleep(wait).await;
            }
            continue;
        }
        while let Some(taken) = queue.pop() {
            match fetch(card, &taken, &mut frame) {
                Ok(true) => send(card, transmitter.as_mut(), &frame).await,
                Ok(false) => {}
                Err(error) => {
                    card.link().into_iter().for_each(|link| link.fail(error));
                    break;
                }
            }
            queue.finish(taken, Vec::new());
            sent += 1;
            if sent % card.settings.burst == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Sends a frame, unless it would pass nowhere.
async fn send(card: &Card, transmitter: Option<&mut Transmitter>, frame: &[u8]) {
    let Some(transmitter) = transmitter.filter(|_| card.is_up()) else {
        return;
    };
    if let Err(error) = transmitter.send(frame).await {
        tracing::debug!(%error, "a frame is lost");
    }
}

/// Copies a frame out of guest memory, so that the guest cannot change it any more. Returns whether there is anything to send.
fn fetch(card: &Card, taken: &Taken, frame: &mut Vec<u8>) -> Result<bool, FrameError> {
    let element = taken.element();
    let (len, header) = (element.readable_len(), card.header_len());
    if len == 0 {
        return Err(FrameError::NoHeader);
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len < header {
        return Err(FrameError::ShortHeader);
    }
    let Some(link) = card
        .link()
        .filter(|_| len > header && len - header <= MAX_FRAME - HEADER_LEN)
    else {
        return Ok(false);
    };
    frame.resize(len, 0);
    if element.read(&link.ram(), 0, frame).is_err() {
        return Ok(false);
    }
    if header < HEADER_LEN {
        frame.splice(header..header, std::iter::repeat_n(0, HEADER_LEN - header));
    } else {
        // The number of buffers means nothing on the way out.
        frame[HEADER_LEN - 2..HEADER_LEN].fill(0);
    }
    Ok(true)
}
