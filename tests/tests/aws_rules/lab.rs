//! A small template of which a check plays the functions, on a paused clock or a real one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::faults::Faults;
use streammanager::queue::{Body, Message, QueueRef};
use streammanager::time::{Clock, Timestamp};
use streammanager_host::up::laboratory::{Laboratory, Play};
use tokio::time::Instant;

use super::case::Unmet;

/// What a function answers, by its name, the event, and how many calls came before.
pub type Answer = dyn Fn(&str, &Value, usize) -> Result<Value, String> + Send + Sync;

/// One call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: Duration,
    pub event: Value,
}

struct Script {
    answer: Box<Answer>,
    takes: Duration,
    begun: Instant,
    calls: Mutex<Vec<Call>>,
    at_work: Mutex<(usize, usize)>,
    /// Calls that are yet to be throttled, and when that happened.
    throttled: Mutex<(usize, Vec<Duration>)>,
}

#[async_trait]
impl Play for Script {
    async fn call(&self, function: &str, event: Value) -> Result<Value, String> {
        let nth = {
            let mut calls = self.calls.lock();
            calls.push(Call { at: self.begun.elapsed(), event: event.clone() });
            calls.len() - 1
        };
        {
            let mut at_work = self.at_work.lock();
            at_work.0 += 1;
            at_work.1 = at_work.1.max(at_work.0);
        }
        tokio::time::sleep(self.takes).await;
        self.at_work.lock().0 -= 1;
        (self.answer)(function, &event, nth)
    }

    fn throttles(&self, _: &str) -> bool {
        let mut throttled = self.throttled.lock();
        let throttles = throttled.0 > 0;
        if throttles {
            throttled.0 -= 1;
            throttled.1.push(self.begun.elapsed());
        }
        throttles
    }
}

pub struct World {
    pub lab: Laboratory,
    pub faults: Faults,
    script: Arc<Script>,
}

/// A time of day for paused clocks.
pub fn paused() -> Clock {
    Clock::simulated(Timestamp::from_second(1_573_690_000).expect("it is a time"))
}

/// Answers that say nothing: whatever came is done.
pub fn fine(_: &str, _: &Value, _: usize) -> Result<Value, String> {
    Ok(json!({}))
}

pub fn fails(_: &str, _: &Value, _: usize) -> Result<Value, String> {
    Err("it fails".to_owned())
}

/// The template of these resources, indented by two blanks.
pub fn template(resources: &str) -> String {
    format!("Transform: AWS::Serverless-2016-10-31\nResources:\n{resources}")
}

/// A function with these properties and events, in YAML's flow style.
pub fn function(name: &str, properties: &str, events: &str) -> String {
    format!(
        "  {name}:\n    Type: AWS::Serverless::Function\n    Metadata: {{BuildMethod: rust-cargolambda, BuildProperties: \
         {{Binary: {name}}}}}\n    Properties: {{CodeUri: ., Handler: bootstrap, Runtime: provided.al2023, {properties} \
         Events: {{{events}}}}}\n"
    )
}

pub fn queue(name: &str, properties: &str) -> String {
    format!("  Q{name}:\n    Type: AWS::SQS::Queue\n    Properties: {{QueueName: {name}, {properties}}}\n")
}

/// A topic rule with these actions, in YAML's flow style.
pub fn rule(name: &str, sql: &str, actions: &str, more: &str) -> String {
    format!(
        "  {name}:\n    Type: AWS::IoT::TopicRule\n    Properties: {{RuleName: {name}, TopicRulePayload: \
         {{AwsIotSqlVersion: '2016-03-23', Sql: {}, Actions: [{actions}]{more}}}}}\n",
        json!(sql)
    )
}

/// The action that sends to the queue of this name.
pub fn to_queue(name: &str) -> String {
    format!("{{Sqs: {{QueueUrl: !Ref Q{name}, RoleArn: r}}}}")
}

impl World {
    pub async fn start(resources: &str, clock: Clock, takes: Duration, answer: Box<Answer>) -> Result<World, Unmet> {
        let script = Arc::new(Script {
            answer,
            takes,
            begun: Instant::now(),
            calls: Mutex::default(),
            at_work: Mutex::default(),
            throttled: Mutex::default(),
        });
        let faults = Faults::none();
        let lab = Laboratory::start(&template(resources), clock, faults.clone(), script.clone()).await?;
        Ok(World { lab, faults, script })
    }

    /// On a paused clock, with calls that take no time.
    pub async fn new(
        resources: &str,
        answer: impl Fn(&str, &Value, usize) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Result<World, Unmet> {
        World::start(resources, paused(), Duration::ZERO, Box::new(answer)).await
    }

    pub fn calls(&self) -> Vec<Call> {
        self.script.calls.lock().clone()
    }

    pub fn events(&self) -> Vec<Value> {
        self.calls().into_iter().map(|call| call.event).collect()
    }

    /// Seconds at which calls came.
    pub fn times(&self) -> Vec<f64> {
        self.calls().iter().map(|call| call.at.as_secs_f64()).collect()
    }

    /// The next calls find no environment.
    pub fn throttle(&self, calls: usize) {
        self.script.throttled.lock().0 = calls;
    }

    /// Seconds at which calls were throttled.
    pub fn throttled(&self) -> Vec<f64> {
        self.script.throttled.lock().1.iter().map(Duration::as_secs_f64).collect()
    }

    pub fn most_at_work(&self) -> usize {
        self.script.at_work.lock().1
    }

    pub async fn send(&self, name: &str, bodies: &[&str]) -> Result<(), Unmet> {
        for body in bodies {
            let message = Message::now(Body::Text((*body).to_owned()));
            let sent = self.lab.queue().send(&local(name), &[message]).await?;
            if sent != [Ok(())] {
                return Err(Unmet::Broken(format!("{sent:?}")));
            }
        }
        Ok(())
    }

    pub async fn publish(&self, topic: &str, payload: &str) -> Result<(), Unmet> {
        match self.lab.publish(topic, payload.as_bytes()).await {
            Ok(_) => Ok(()),
            Err(refused) => Err(Unmet::Broken(format!("the publish was refused: {refused:?}"))),
        }
    }

    /// What waits in a queue, as text.
    pub async fn bodies(&self, name: &str) -> Result<Vec<String>, Unmet> {
        let came = self.lab.take(&local(name)).await?;
        Ok(came.into_iter().map(|delivery| text(&delivery.body)).collect())
    }

    /// Everything that a queue holds.
    pub async fn left(&self, name: &str) -> Result<u64, Unmet> {
        Ok(self.lab.queue().depth(&local(name)).await?.total())
    }
}

fn text(body: &Body) -> String {
    match body {
        Body::Text(text) => text.clone(),
        Body::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

pub fn local(name: &str) -> QueueRef {
    QueueRef::new(&format!("local:{name}"))
}

pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Fails unless a template of these resources is refused, and for this property.
pub async fn refused(resources: &str, property: &str) -> Result<(), Unmet> {
    match World::new(resources, fine).await {
        Ok(_) => Err(Unmet::Broken(format!("the template was accepted, whatever its {property}"))),
        Err(Unmet::Broken(words)) if words.contains(property) => Ok(()),
        Err(other) => Err(Unmet::Broken(format!("refused for another reason: {other:?}"))),
    }
}
