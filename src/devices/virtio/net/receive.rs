//! Frames that come in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::card::Card;
use super::control;
use crate::devices::virtio::queue::MAX_SIZE;
use crate::devices::virtio::{Delivery, Virtqueue};
use crate::io::{Counter, Handle};
use crate::net::{Frame, HEADER_LEN, Port, Receiver};

/// How long to wait after an error of a descriptor that may stay.
const PAUSE: Duration = Duration::from_millis(100);
/// Frames that are taken before others have their turn.
const BURST: usize = 64;

/// Hands what comes in at `port` to the driver, for ever. The queue of a pair may be the control queue of a driver that knows
/// of one pair.
pub(super) async fn run(card: Arc<Card>, pair: u16, port: Option<Port>, on: Handle) {
    let index = 2 * usize::from(pair);
    let Some(queue) = card.queue(index) else { return };
    if let Err(error) = serve(&card, pair, queue, port, &on).await {
        tracing::error!(%error, pair, "a network card receives nothing any more");
    }
}

async fn serve(card: &Card, pair: u16, queue: &Virtqueue, port: Option<Port>, on: &Handle) -> io::Result<()> {
    let rung = on.counter(queue.doorbell().event())?;
    let mut receiver = port.map(|port| port.receiver(on)).transpose()?;
    let mut frame = Frame::default();
    let mut taken = 0;
    loop {
        if card.control_queue() == usize::from(queue.index()) {
            control::serve(card, queue);
            rung.take().await?;
            continue;
        }
        // What passes nowhere is thrown away, whether there is room or not.
        let wants = card.is_active(pair) && (!card.is_up() || queue.has_buffer());
        let Some(receiver) = receiver.as_mut().filter(|_| wants) else {
            rung.take().await?;
            continue;
        };
        if !next(receiver, &mut frame, &rung, on).await? {
            continue;
        }
        deliver(card, queue, &mut frame, &rung).await?;
        taken += 1;
        if taken % BURST == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Waits for a frame, or until the doorbell rings. Returns whether there is a frame.
async fn next(receiver: &mut Receiver, frame: &mut Frame, rung: &Counter, on: &Handle) -> io::Result<bool> {
    let received = tokio::select! {
        biased;
        received = receiver.receive(frame) => received,
        rung = rung.take() => return rung.map(|_| false),
    };
    if let Err(error) = &received {
        tracing::debug!(%error, "a frame is lost");
        on.sleep(PAUSE).await;
    }
    Ok(received.is_ok())
}

/// Hands a frame to the driver once it has room for it, unless it is not to have it.
async fn deliver(card: &Card, queue: &Virtqueue, frame: &mut Frame, rung: &Counter) -> io::Result<()> {
    loop {
        if frame.payload().is_empty() || !card.is_up() || !card.takes(frame.payload()) {
            return Ok(());
        }
        match offer(card, queue, frame.bytes()) {
            Delivery::Done | Delivery::TooLong => return Ok(()),
            Delivery::NoRoom => rung.take().await?,
        };
    }
}

fn offer(card: &Card, queue: &Virtqueue, frame: &mut [u8]) -> Delivery {
    let at_most = if card.is_mergeable() { MAX_SIZE.into() } else { 1 };
    let header_len = card.header_len();
    if header_len < HEADER_LEN {
        let mut short = [&frame[..header_len], &frame[HEADER_LEN..]].concat();
        return queue.deliver(&mut short, at_most, |_, _| {});
    }
    queue.deliver(frame, at_most, |frame, buffers| {
        let [low, high] = buffers.to_le_bytes();
        frame[HEADER_LEN - 2] = low;
        frame[HEADER_LEN - 1] = high;
    })
}
