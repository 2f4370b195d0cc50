//! The broker without the bus: to publish what the bus never would, and to look into queues.

use crate::{Config, link::Link};
use lapin::{
    BasicProperties, Channel,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

/// A connection of its own, for tests. Its methods panic when the broker refuses.
pub struct RawBroker {
    link: Link,
    channel: Channel,
}

impl std::fmt::Debug for RawBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawBroker").finish_non_exhaustive()
    }
}

/// A message as it lies in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The bytes.
    pub body: Vec<u8>,
    /// The AMQP property `type`.
    pub kind: Option<String>,
    /// 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// The text headers, such as `x-reason`.
    pub headers: Vec<(String, String)>,
}

impl RawMessage {
    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, text)| text.as_str())
    }
}

const REFUSED: &str = "the test broker refused";

impl RawBroker {
    pub(super) async fn connect(config: &Config) -> Self {
        let link = Link::connect(config, "test")
            .await
            .expect("the test broker cannot be reached");
        let channel = link.connection.create_channel().await.expect(REFUSED);
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect(REFUSED);
        Self { link, channel }
    }

    /// Publishes any body with any `type` and waits for the confirm.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn publish(&self, exchange: &str, key: &str, kind: Option<&str>, body: &[u8]) {
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(kind) = kind {
            properties = properties.with_type(kind.into());
        }
        let options = BasicPublishOptions::default();
        let confirm = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, properties)
            .await
            .expect(REFUSED);
        assert!(confirm.await.expect(REFUSED).is_ack());
    }

    /// Takes the next message of a queue, if there is one.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn take(&self, queue: &str) -> Option<RawMessage> {
        let options = BasicGetOptions { no_ack: true };
        let message = self
            .channel
            .basic_get(queue.into(), options)
            .await
            .expect(REFUSED)?;
        let headers = message.properties.headers().clone().unwrap_or_default();
        Some(RawMessage {
            kind: message.properties.kind().as_ref().map(ToString::to_string),
            delivery_mode: *message.properties.delivery_mode(),
            headers: headers
                .inner()
                .iter()
                .filter_map(|(name, value)| match value {
                    AMQPValue::LongString(text) => Some((name.to_string(), text.to_string())),
                    _ => None,
                })
                .collect(),
            body: message.delivery.data,
        })
    }

    /// How many messages wait in a queue (those delivered and not acknowledged do not count);
    /// `None` when there is no such queue.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn waiting(&self, queue: &str) -> Option<u32> {
        // A channel of its own: asking for what is not there closes it.
        let channel = self.link.connection.create_channel().await.expect(REFUSED);
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await;
        queue.ok().map(|queue| queue.message_count())
    }

    /// Declares a durable queue of a type (`classic`, `quorum`), as another installation might.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn declare_queue(&self, queue: &str, kind: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(queue.into(), options, arguments)
            .await
            .expect(REFUSED);
    }

    /// Deletes a queue with everything in it.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn delete_queue(&self, queue: &str) {
        let options = QueueDeleteOptions::default();
        self.channel
            .queue_delete(queue.into(), options)
            .await
            .expect(REFUSED);
    }

    /// Deletes an exchange.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn delete_exchange(&self, exchange: &str) {
        let options = ExchangeDeleteOptions::default();
        self.channel
            .exchange_delete(exchange.into(), options)
            .await
            .expect(REFUSED);
    }
}
