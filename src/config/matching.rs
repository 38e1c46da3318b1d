//! What the policies that match a method say of it together.
//!
//! **Invariant**: the order of policies in the file means nothing; the more specific pattern has the last word, key by key.

use std::sync::Arc;

use super::admission::{Admission, Priority};
use super::authorization::Authorization;
use super::cors::Cors;
use super::rate_limit::RateLimit;
use super::{Change, Config, MethodSettings, PartialCompression, PartialSettings, Policy};

impl Config {
    /// What holds for `pkg.Service/Method`: the defaults, then every matching policy from the least specific on.
    pub fn method(&self, method: &str) -> MethodSettings {
        let mut matching: Vec<&Policy> = self.policies.iter().filter(|policy| policy.matches.matches(method)).collect();
        matching.sort_by_key(|policy| policy.matches.specificity());
        let mut settings = self.defaults.clone();
        for policy in matching {
            settings.apply(&policy.settings);
        }
        settings
    }

    /// How often `pkg.Service/Method` may be called: the limits of all matching policies, from the least specific on, but
    /// none from before one that takes them back.
    pub fn rate_limits(&self, method: &str) -> Vec<Arc<RateLimit>> {
        let mut matching: Vec<&Policy> = self.policies.iter().filter(|policy| policy.matches.matches(method)).collect();
        matching.sort_by_key(|policy| policy.matches.specificity());
        let mut limits = Vec::new();
        for policy in matching {
            match &policy.rate_limits {
                Change::Inherited => {}
                Change::Cleared => limits.clear(),
                Change::To(added) => limits.extend(added.iter().cloned()),
            }
        }
        limits
    }

    /// What holds for a method that the gateway answers itself and that no schema lists.
    ///
    /// Health says nothing of anybody and is asked by machines that have no credentials, so that it is open unless a
    /// policy names it by more than `*`.
    pub fn local_method(&self, method: &str, is_health: bool) -> MethodSettings {
        let mut settings = self.method(method);
        if is_health && !self.names(method) {
            settings.authenticate = None;
            settings.authorize = None;
            settings.admission = Admission { priority: Priority::Critical, ..Admission::default() };
        }
        settings
    }

    /// How often such a method may be called; the same is true of health.
    pub fn local_rate_limits(&self, method: &str, is_health: bool) -> Vec<Arc<RateLimit>> {
        if is_health && !self.names(method) { Vec::new() } else { self.rate_limits(method) }
    }

    /// Whether a policy names the method by more than `*`.
    fn names(&self, method: &str) -> bool {
        self.policies.iter().any(|policy| !policy.matches.prefix.is_empty() && policy.matches.matches(method))
    }

    /// Which pages of other origins may call `pkg.Service/Method`: what the most specific policy says that says
    /// anything of it. For calls that mean no method there is the empty name, which only `*` matches.
    pub fn cors(&self, method: &str) -> Option<&Arc<Cors>> {
        let matching = self.policies.iter().filter(|policy| policy.matches.matches(method));
        let telling = matching.filter(|policy| policy.cors != Change::Inherited);
        match &telling.max_by_key(|policy| policy.matches.specificity())?.cors {
            Change::To(cors) => Some(cors),
            Change::Inherited | Change::Cleared => None,
        }
    }
}

impl MethodSettings {
    pub(super) fn apply(&mut self, partial: &PartialSettings) {
        let set = |target: &mut bool, value: Option<bool>| *target = value.unwrap_or(*target);
        self.unary_timeout = partial.unary_timeout.unwrap_or(self.unary_timeout);
        self.stream_idle = partial.stream_idle.unwrap_or(self.stream_idle);
        self.stream_timeout = partial.stream_timeout.unwrap_or(self.stream_timeout);
        partial.retry.apply(&mut self.retry);
        partial.hedge.apply(&mut self.hedge);
        self.max_request_message = partial.max_request_message.unwrap_or(self.max_request_message);
        self.max_response_message = partial.max_response_message.unwrap_or(self.max_response_message);
        set(&mut self.json.ignore_unknown_fields, partial.ignore_unknown_fields);
        set(&mut self.json.int64_as_number, partial.int64_as_number);
        set(&mut self.json.emit_defaults, partial.emit_defaults);
        set(&mut self.json.preserve_proto_names, partial.preserve_proto_names);
        set(&mut self.json.enums_as_numbers, partial.enums_as_numbers);
        set(&mut self.json.stream_envelope, partial.stream_envelope);
        if let Some(name) = &partial.reply_status_metadata {
            self.reply.status_metadata = Some(name.clone());
        }
        if let Some(names) = &partial.reply_metadata {
            self.reply.headers = Arc::clone(names);
        }
        if let Some(bound) = &partial.request_headers {
            self.request_headers = Arc::clone(bound);
        }
        if let Some(bound) = &partial.reply_headers {
            self.reply_headers = Arc::clone(bound);
        }
        partial.authenticate.apply(&mut self.authenticate);
        Authorization::apply(&partial.authorize, &mut self.authorize);
        if let Some(forwarded) = &partial.identity {
            self.identity = Some(Arc::clone(forwarded));
        }
        partial.admission.apply(&mut self.admission);
        match &partial.compression {
            None => {}
            Some(PartialCompression::Off) => self.compression.enabled = false,
            Some(PartialCompression::On { min_size, encodings }) => {
                self.compression.enabled = true;
                self.compression.min_size = min_size.unwrap_or(self.compression.min_size);
                if let Some(encodings) = encodings {
                    self.compression.encodings = Arc::clone(encodings);
                }
            }
        }
    }
}

impl<T: Clone> Change<T> {
    /// Changes what a less specific policy said.
    fn apply(&self, target: &mut Option<T>) {
        match self {
            Self::Inherited => {}
            Self::Cleared => *target = None,
            Self::To(value) => *target = Some(value.clone()),
        }
    }
}
