//! How a connection ends: what is in the window still settles, the client is told why, and its last will goes out.

use std::sync::atomic::AtomicUsize;

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::broker::Attached;
use super::connect::Will;
use super::connection::{Connection, End};
use super::decode::Version;
use super::encode;
use super::window::{Reply, Settled, offer};
use super::{Publish, Refused, Shared, Socket, hang_up};

impl Connection {
    pub(super) async fn finish(
        mut self,
        end: End,
        mut socket: impl Socket,
        will: Option<Will>,
        stop: &CancellationToken,
    ) {
        self.shared.broker.detach(&self.attached);
        let reason = match &end {
            End::Farewell { .. } | End::Lost => None,
            End::Fault(fault) => Some(fault.reason),
            End::Stopping => Some(DisconnectReasonCode::ServerShuttingDown),
        };
        // After a fault nothing more is acknowledged: DISCONNECT is the last packet, and the client sends again.
        let acknowledge = matches!(end, End::Lost | End::Stopping);
        if acknowledge {
            self.settle_rest(stop, true).await;
        }
        if let Some(reason) = reason.filter(|_| self.peer.version == Version::V5)
            && encode::disconnect(&mut self.outbox, reason).is_err()
        {
            self.outbox.clear();
        }
        let mut last = std::mem::take(&mut self.outbox);
        let farewell = async {
            hang_up(&mut socket, &mut last).await;
            drop(socket);
        };
        // The window goes on at once, however long the peer takes for its last bytes.
        let aftermath = async {
            if !acknowledge {
                self.settle_rest(stop, false).await;
            }
            // From here on the session's next connection may read.
            self.turn = None;
            match (end, will) {
                (End::Farewell { with_will: false } | End::Stopping, _) | (_, None) => {}
                (_, Some(will)) => self.send_will(will, stop).await,
            }
        };
        tokio::join!(farewell, aftermath);
    }

    /// Waits until the publishes in the window are settled and spread, for a bounded time: a client may well publish at
    /// QoS 0 and leave at once.
    async fn settle_rest(&mut self, stop: &CancellationToken, acknowledge: bool) {
        let shared = self.shared.clone();
        let enough = shared.patience(stop);
        tokio::pin!(enough);
        let mut acknowledge = acknowledge;
        while !self.window.is_empty() {
            let settled = tokio::select! {
                () = &mut enough => return,
                settled = self.window.settled() => settled,
            };
            if acknowledge {
                acknowledge = self.answer(settled).is_ok();
            } else if let Settled::Judged { reply, message, answer } = settled
                && let Err(refused) = self.spread(reply, message, answer)
            {
                tracing::debug!(client = %self.peer.owner.client_id, ?refused, "publish refused");
            }
        }
    }

    /// Publishes the last will through the gate, unless its client comes back within the will's delay.
    async fn send_will(self, will: Will, stop: &CancellationToken) {
        let Attached { session, serial, .. } = &self.attached;
        let delay = will.delay.min(session.expiry());
        if !delay.is_zero() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(delay) => {}
            }
            if !session.is_away_since(*serial) {
                return;
            }
        }
        let (publish, message) = self.prepare(will.publish);
        // Whatever its subscribers get it at, there is nobody to acknowledge it to.
        let publish = Publish { qos: 0, ..publish };
        let held = AtomicUsize::new(0);
        let answer = tokio::select! {
            () = self.shared.patience(stop) => Err(Refused::Busy),
            answer = offer(&*self.shared.gate, publish, self.shared.limits.drain, &held) => answer,
        };
        if let Err(refused) = self.spread(Reply::Nothing, message, answer) {
            tracing::warn!(client = %self.peer.owner.client_id, ?refused, "last will not published");
        }
    }
}

impl Shared {
    /// For as long as the gate may take for what a connection has left behind.
    async fn patience(&self, stop: &CancellationToken) {
        let stopped = async {
            stop.cancelled().await;
            sleep(self.limits.stop_grace).await;
        };
        tokio::select! {
            () = sleep(self.limits.drain) => {}
            () = stopped => {}
        }
    }
}
