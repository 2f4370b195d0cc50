//! A namespace on the test broker.

use super::RawBroker;
use crate::{AmqpUrl, Config};
use contract::{StepKind, StepName, Topology};
use uuid::Uuid;

/// A namespace of one test's own. Dropping it deletes its exchanges and queues.
#[derive(Debug)]
pub struct TestNamespace {
    config: Config,
    steps: Vec<StepName>,
}

impl TestNamespace {
    /// A fresh namespace on the broker of `GUICHET_AMQP_URL`.
    ///
    /// # Panics
    /// When the variable is not set: a test that cannot reach its broker fails.
    #[must_use]
    pub fn new() -> Self {
        let url = std::env::var("GUICHET_AMQP_URL")
            .expect("GUICHET_AMQP_URL must name a RabbitMQ server for tests");
        let config = Config {
            url: AmqpUrl::new(url),
            namespace: format!("test-{}", Uuid::now_v7().simple()),
            node: "test".to_owned(),
            ..Config::default()
        };
        Self {
            config,
            steps: StepName::OF_AN_ORDER.to_vec(),
        }
    }

    /// Further steps whose queues are to be deleted at the end, beside those of an order.
    #[must_use]
    pub fn with_steps(mut self, steps: &[StepName]) -> Self {
        self.steps.extend_from_slice(steps);
        self
    }

    /// A configuration for this namespace, with defaults else.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// The names in this namespace.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology::new(self.config.namespace.clone())
    }

    /// The broker's raw side.
    ///
    /// # Panics
    /// When the broker cannot be reached.
    pub async fn raw(&self) -> RawBroker {
        RawBroker::connect(&self.config).await
    }
}

impl Default for TestNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let (config, topology, steps) = (self.config(), self.topology(), self.steps.clone());
        // On a thread of its own: the test's runtime cannot be waited for inside of it.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let raw = RawBroker::connect(&config).await;
                let mut queues = vec![topology.parked_queue()];
                for step in &steps {
                    queues.push(topology.command_queue(step, StepKind::Do));
                    queues.push(topology.command_queue(step, StepKind::Undo));
                }
                for queue in queues {
                    raw.delete_queue(&queue).await;
                }
                for exchange in [
                    topology.commands_exchange(),
                    topology.sagas_exchange(),
                    topology.events_exchange(),
                    topology.parked_exchange(),
                ] {
                    raw.delete_exchange(&exchange).await;
                }
            });
            std::io::Result::Ok(())
        });
        if !matches!(cleaning.join(), Ok(Ok(()))) {
            tracing::warn!(
                namespace = self.config.namespace,
                "a test namespace was not deleted"
            );
        }
    }
}
