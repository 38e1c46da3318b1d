//! One worker's clients of the stores in which limits are counted, beside the process's own.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::rate_limit::Limiter;
use crate::config::rate_limit::{Service, Store};
use crate::config::redis::Redis as Settings;
use crate::config::{Change, Config};
use crate::store::redis::Redis;
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::stores::StoreMetrics;

/// The clients that a configuration asks for.
#[derive(Debug)]
pub(crate) struct Stores {
    redis: Option<Lazy>,
    limiters: Vec<Rc<Limiter>>,
}

/// A client that connects once somebody wants it.
#[derive(Debug)]
struct Lazy {
    settings: Arc<Settings>,
    metrics: Arc<StoreMetrics>,
    client: OnceCell<Rc<Redis>>,
}

impl Stores {
    /// Of this configuration; what it has in common with another keeps its connections and what is known of it.
    pub(in crate::proxy) fn prepare(config: &Config, before: Option<&Self>, metrics: &WorkerMetrics) -> Self {
        let redis = config.redis.as_ref().filter(|_| asks_redis(config)).map(|settings| {
            let known = before.and_then(|before| before.redis.as_ref()).filter(|known| known.settings == *settings);
            let client = known.map(|known| known.client.clone()).unwrap_or_default();
            Lazy { settings: Arc::clone(settings), metrics: metrics.store(REDIS), client }
        });
        let limiter = |service: &Arc<Service>| {
            let known = before.and_then(|before| before.limiter(service)).map(Rc::clone);
            known.unwrap_or_else(|| Limiter::new(Arc::clone(service), metrics.store(&service.name)))
        };
        Self { redis, limiters: config.rate_limiting.services.iter().map(limiter).collect() }
    }

    /// The client of Redis; there is one if a limit is counted there. The first to want it begins to connect, on its worker.
    pub(in crate::proxy) fn redis(&self) -> Option<&Rc<Redis>> {
        let Lazy { settings, metrics, client } = self.redis.as_ref()?;
        Some(client.get_or_init(|| Redis::new(Arc::clone(settings), Arc::clone(metrics))))
    }

    /// The client of a service of the same configuration.
    pub(in crate::proxy) fn limiter(&self, service: &Service) -> Option<&Rc<Limiter>> {
        self.limiters.iter().find(|known| **known.service() == *service)
    }
}

fn asks_redis(config: &Config) -> bool {
    config.policies.iter().any(|policy| match &policy.rate_limits {
        Change::To(limits) => limits.iter().any(|limit| matches!(limit.store, Store::Redis { .. })),
        Change::Inherited | Change::Cleared => false,
    })
}

/// Its name in metrics.
const REDIS: &str = "redis";
