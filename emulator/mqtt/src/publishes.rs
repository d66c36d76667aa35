//! What becomes of a publish: into the window, through the gate, to subscribers, and its answer back to the client.

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use tokio::time::Instant;

use super::connection::{Connection, End};
use super::decode::{self, Version};
use super::encode::{self, Denial, Reached};
use super::frame::{Fault, fault};
use super::inbound::Fingerprint;
use super::message::{Message, Qos};
use super::window::{Reply, Settled};
use super::{Publish, Refused, Taken};

impl Connection {
    /// Puts a publish into the window.
    pub(super) fn let_in(&mut self, mut publish: decode::Publish) -> Result<(), End> {
        self.place.heard();
        if let Some(alias) = publish.alias {
            publish.topic = self.their_aliases.resolve(alias, publish.topic)?;
        }
        let reply = match (publish.qos, publish.packet_id) {
            (Qos::AtMostOnce, _) | (_, None) => Reply::Nothing,
            (Qos::AtLeastOnce, Some(packet_id)) => Reply::Puback(packet_id),
            (Qos::ExactlyOnce, Some(packet_id)) => {
                let fingerprint = Fingerprint::of(&publish.topic, &publish.payload);
                if self.window.holds(packet_id, fingerprint) {
                    // Its answer is due as it is.
                    return Ok(());
                }
                if self.attached.session.has_taken(packet_id, fingerprint) {
                    self.window.push_again(packet_id);
                    return Ok(());
                }
                let unfinished = self.attached.session.unreleased() + self.window.of_two();
                if self.peer.version == Version::V5 && unfinished >= usize::from(self.shared.limits.window) {
                    let what = "more publishes of QoS 2 without an end than the receive maximum";
                    return Err(fault(DisconnectReasonCode::ReceiveMaximumExceeded, what).into());
                }
                Reply::Pubrec(packet_id, fingerprint)
            }
        };
        let (publish, message) = self.prepare(publish);
        self.window.push(publish, reply, message);
        Ok(())
    }

    /// What the gate sees of a publish, and what subscribers get of it.
    pub(super) fn prepare(&self, publish: decode::Publish) -> (Publish, Message) {
        let message = Message {
            topic: publish.topic.as_str().into(),
            payload: publish.payload.clone(),
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires_at: publish.expiry.map(|after| Instant::now() + after),
        };
        let publish = Publish {
            topic: publish.topic,
            payload: publish.payload,
            client_id: self.peer.owner.client_id.to_string(),
            identity: self.peer.owner.identity.clone(),
            qos: publish.qos.into(),
            retain: publish.retain,
            dup: publish.dup,
            again: false,
        };
        (publish, message)
    }

    /// Answers the oldest publish, and those after it that are settled already.
    pub(super) fn answer(&mut self, oldest: Settled) -> Result<(), Fault> {
        let mut next = Some(oldest);
        while let Some(settled) = next {
            match settled {
                Settled::Again { packet_id } => {
                    encode::pubrec(&mut self.outbox, self.peer.version, packet_id, Reached::Somebody)?;
                }
                Settled::Judged { reply, message, answer } => match (self.spread(reply, message, answer), reply) {
                    (Ok(_), Reply::Nothing) => {}
                    (Ok(reached), Reply::Puback(packet_id)) => {
                        encode::puback(&mut self.outbox, self.peer.version, packet_id, reached)?;
                    }
                    (Ok(reached), Reply::Pubrec(packet_id, _)) => {
                        encode::pubrec(&mut self.outbox, self.peer.version, packet_id, reached)?;
                    }
                    (Err(refused), reply) => self.answer_refused(reply, &refused)?,
                },
            }
            next = self.window.settled_now();
        }
        Ok(())
    }

    /// Hands a message on to subscribers, once the gate has said yes. Tells whether it reached anybody.
    pub(super) fn spread(
        &self,
        reply: Reply,
        message: Message,
        answer: Result<Taken, Refused>,
    ) -> Result<Reached, Refused> {
        let taken = answer?;
        if let Reply::Pubrec(packet_id, fingerprint) = reply {
            self.attached.session.note_taken(packet_id, fingerprint);
        }
        if taken == Taken::Withheld {
            return Ok(Reached::Somebody);
        }
        let topic = message.topic.clone();
        let subscribers = self.shared.broker.publish(Some(&self.peer.owner), message);
        if taken == Taken::Stored {
            return Ok(Reached::Somebody);
        }
        self.shared.unrouted.note(&self.peer.owner.client_id, &topic, subscribers);
        Ok(if subscribers == 0 { Reached::Nobody } else { Reached::Somebody })
    }

    /// To a client that cannot be told that its message is kept and will never be taken.
    fn acknowledge_kept(&mut self, reply: Reply) -> Result<(), Fault> {
        match reply {
            Reply::Nothing => Ok(()),
            Reply::Puback(packet_id) => encode::puback(&mut self.outbox, self.peer.version, packet_id, Reached::Nobody),
            Reply::Pubrec(packet_id, fingerprint) => {
                self.attached.session.note_taken(packet_id, fingerprint);
                encode::pubrec(&mut self.outbox, self.peer.version, packet_id, Reached::Nobody)
            }
        }
    }

    fn answer_refused(&mut self, reply: Reply, refused: &Refused) -> Result<(), Fault> {
        tracing::debug!(client = %self.peer.owner.client_id, ?refused, "publish refused");
        if reply == Reply::Nothing {
            return Ok(());
        }
        let (denial, closing) = match refused {
            Refused::Busy => (Denial::Busy, DisconnectReasonCode::QuotaExceeded),
            Refused::NotAuthorized => (Denial::NotAuthorized, DisconnectReasonCode::NotAuthorized),
            Refused::Invalid(_) => (Denial::Invalid, DisconnectReasonCode::PayloadFormatInvalid),
        };
        if self.peer.version == Version::V311 {
            if matches!(refused, Refused::Invalid(_)) {
                return self.acknowledge_kept(reply);
            }
            // 3.1.1 has no negative acknowledgement: without one the client keeps its message and sends it again.
            return Err(fault(closing, "publish refused"));
        }
        let text = match refused {
            Refused::Invalid(text) if self.peer.wants_reasons && self.peer.packet_maximum > 512 => Some(text.as_str()),
            _ => None,
        };
        encode::denied(&mut self.outbox, reply, denial, text)
    }
}
