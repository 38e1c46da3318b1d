//! Patterns of the configuration that match nothing: mostly misspelt names.

use super::Snapshot;
use crate::config::ServicePattern;

impl Snapshot {
    /// One sentence for each pattern that matches nothing of the schemas; it may be meant for what no schema knows. None as long
    /// as a schema is missing.
    pub fn idle_patterns(&self) -> Vec<String> {
        if self.missing().next().is_some() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        for upstream in &self.upstreams {
            let Some(schema) = upstream.schema.schema() else { continue };
            for pattern in &upstream.config.services {
                if !schema.services().iter().any(|service| pattern.matches(&service.name)) {
                    let pattern = match pattern {
                        ServicePattern::Exact(service) => service.to_string(),
                        ServicePattern::Prefix(prefix) => format!("{prefix}*"),
                    };
                    let name = &upstream.config.name;
                    lines.push(format!("upstream {name}: `{pattern}` in `services` names no service of its schema"));
                }
            }
        }
        for policy in &self.config.policies {
            if !self.methods.iter().any(|method| policy.matches.matches(&method.name)) {
                lines.push(format!("policies: `{}` matches no method that is served", policy.matches));
            }
        }
        lines
    }
}
