//! Compiles a snapshot out of the configuration and the schemas that are there.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use http::uri::PathAndQuery;

use super::{Binding, Method, Notice, NoticeKind, SchemaState, Snapshot, Transcoding, Upstream};
use crate::config::{Config, MethodSettings};
use crate::grpc;
use crate::policy::rate_limit::Plan;
use crate::route::{Builder, Router};
use crate::schema::http_rule::{self, BodyRule, Replaced, Rules};
use crate::schema::probe::Probe;
use crate::schema::reflect::Index;
use crate::schema::{Schema, Service};
use crate::transcode::{Plans, ReplyPlan, RequestPlan};

impl Snapshot {
    /// Compiles everything; what cannot be compiled is left out and noted.
    ///
    /// `schemas` stand in the order of the configuration's upstreams.
    pub fn build(config: &Arc<Config>, schemas: Vec<SchemaState>) -> Self {
        let mut building = Building::new(config, schemas);
        for (upstream, service) in building.services() {
            building.add_service(upstream, service);
        }
        building.note_replaced_rules();
        building.finish(Arc::clone(config))
    }
}

struct Building<'c> {
    config: &'c Config,
    rules: Rules,
    upstreams: Vec<Upstream>,
    methods: Vec<Method>,
    by_name: HashMap<Arc<str>, usize>,
    router: Builder<usize>,
    bindings: Vec<Binding>,
    notices: Vec<Notice>,
    served: Vec<Vec<Arc<str>>>,
}

impl<'c> Building<'c> {
    fn new(config: &'c Config, schemas: Vec<SchemaState>) -> Self {
        let upstreams: Vec<_> = config
            .upstreams
            .iter()
            .zip(schemas)
            .map(|(config, schema)| Upstream { config: config.clone(), schema })
            .collect();
        let mut notices = Vec::new();
        for upstream in &upstreams {
            let note = |kind, text| Notice { kind, upstream: Arc::clone(&upstream.config.name), text };
            match &upstream.schema {
                SchemaState::Missing(why) => notices.push(note(NoticeKind::Missing, why.to_string())),
                SchemaState::Loaded(plans) => {
                    notices.extend(
                        plans.schema().problems().iter().map(|problem| {
                            note(NoticeKind::LeftOut, format!("{}: {}", problem.subject, problem.reason))
                        }),
                    )
                }
            }
        }
        let served = upstreams.iter().map(|_| Vec::new()).collect();
        let rules = Rules::new(&config.http_rules).unwrap_or_else(|error| {
            notices.extend(upstreams.first().map(|upstream| Notice {
                kind: NoticeKind::LeftOut,
                upstream: Arc::clone(&upstream.config.name),
                text: format!("http_rules: {error}"),
            }));
            Rules::default()
        });
        Self {
            config,
            rules,
            upstreams,
            methods: Vec::new(),
            by_name: HashMap::new(),
            router: Router::builder(),
            bindings: Vec::new(),
            notices,
            served,
        }
    }

    fn note(&mut self, kind: NoticeKind, upstream: usize, text: String) {
        let upstream = Arc::clone(&self.upstreams[upstream].config.name);
        self.notices.push(Notice { kind, upstream, text });
    }

    /// Decides which upstream serves which service: (upstream, index of the service in its schema).
    fn services(&mut self) -> Vec<(usize, usize)> {
        let mut owners: HashMap<Arc<str>, usize> = HashMap::new();
        let mut services: Vec<(usize, usize)> = Vec::new();
        let mut conflicts = Vec::new();
        for (index, upstream) in self.upstreams.iter().enumerate() {
            let Some(schema) = upstream.schema.schema() else { continue };
            let patterns = &upstream.config.services;
            for (position, service) in schema.services().iter().enumerate() {
                let wanted = patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&service.name));
                if grpc::is_infrastructure(&service.name) || !wanted {
                    continue;
                }
                let Some(&owner) = owners.get(&service.name) else {
                    owners.insert(Arc::clone(&service.name), index);
                    services.push((index, position));
                    continue;
                };
                // One of them names it in `services`, the other takes it only because its schema has it.
                match (self.upstreams[owner].config.services.is_empty(), patterns.is_empty()) {
                    (false, true) => {}
                    (true, false) => {
                        owners.insert(Arc::clone(&service.name), index);
                        services.retain(|(upstream, place)| !self.is_service(*upstream, *place, &service.name));
                        services.push((index, position));
                    }
                    (true, true) | (false, false) => conflicts.push((owner, index, Arc::clone(&service.name))),
                }
            }
        }
        // One that was settled by a later upstream's `services` is none.
        conflicts.retain(|(owner, _, service)| owners.get(service) == Some(owner));
        for (owner, other, service) in conflicts {
            let first = Arc::clone(&self.upstreams[owner].config.name);
            let text = format!(
                "service {service} is declared by upstream {first} too, which keeps it; say in `services` whose it is"
            );
            self.note(NoticeKind::Conflict, other, text);
        }
        services
    }

    fn is_service(&self, upstream: usize, position: usize, name: &str) -> bool {
        self.upstreams[upstream].schema.schema().is_some_and(|schema| &*schema.services()[position].name == name)
    }

    fn add_service(&mut self, upstream: usize, position: usize) {
        let SchemaState::Loaded(plans) = &self.upstreams[upstream].schema else { return };
        let plans = Arc::clone(plans);
        let schema = Arc::clone(plans.schema());
        let service: &Service = &schema.services()[position];
        self.served[upstream].push(Arc::clone(&service.name));
        for method in &service.methods {
            if let Err(reason) = self.add_method(upstream, &plans, &schema, method) {
                self.note(NoticeKind::LeftOut, upstream, format!("{}: {reason}", method.name));
            }
        }
    }

    /// The limits of a method, with the fields of its request that are parts of their keys.
    fn limits(&mut self, upstream: usize, schema: &Schema, method: &crate::schema::Method) -> Option<Plan> {
        let limits = self.config.rate_limits(&method.name);
        Plan::new(&limits, |path| {
            Probe::compile(schema, method.input, path)
                .map_err(|problem| {
                    let text =
                        format!("{}: a rate limit by field:{path} counts its calls as without: {problem}", method.name);
                    self.note(NoticeKind::LeftOut, upstream, text);
                })
                .ok()
        })
    }

    /// What holds for a method. Most have the same as the one before: they have it together, since it is large.
    fn settings(&self, method: &str) -> Arc<MethodSettings> {
        let settings = self.config.method(method);
        match self.methods.last() {
            Some(before) if *before.settings == settings => Arc::clone(&before.settings),
            Some(_) | None => Arc::new(settings),
        }
    }

    fn add_method(
        &mut self,
        upstream: usize,
        plans: &Arc<Plans>,
        schema: &Schema,
        method: &crate::schema::Method,
    ) -> Result<(), String> {
        let mut direct = Transcoding {
            request: RequestPlan::compile(plans, method.input, &[], &BodyRule::Whole)?,
            reply: ReplyPlan::compile(plans, method.output, None)?,
        };
        let index = self.methods.len();
        let path = format!("/{}", method.name);
        let path = PathAndQuery::try_from(path.as_str()).map_err(|error| error.to_string())?;
        let settings = self.settings(&method.name);
        let limits = self.limits(upstream, schema, method).map(Box::new);
        for problem in bind_headers(&mut direct, &settings, method.server_streaming) {
            self.note(NoticeKind::LeftOut, upstream, format!("{}: {problem}", method.name));
        }
        self.methods.push(Method {
            name: Arc::clone(&method.name),
            path,
            upstream,
            client_streaming: method.client_streaming,
            server_streaming: method.server_streaming,
            side_effect_free: method.side_effect_free,
            idempotent: method.idempotent,
            settings,
            cors: self.config.cors(&method.name).cloned(),
            limits,
            direct,
        });
        self.by_name.insert(Arc::clone(&method.name), index);
        let rule = self.rules.of(&method.name).cloned().or_else(|| method.http_rule());
        let Some(rule) = rule else { return Ok(()) };
        let flattened = http_rule::Binding::flatten(schema, method, &rule);
        for broken in flattened.broken {
            self.note(NoticeKind::LeftOut, upstream, format!("the HTTP rule of {broken}"));
        }
        for binding in flattened.sound {
            self.add_binding(index, plans, method, binding);
        }
        Ok(())
    }

    fn add_binding(
        &mut self,
        index: usize,
        plans: &Arc<Plans>,
        method: &crate::schema::Method,
        binding: http_rule::Binding,
    ) {
        let upstream = self.methods[index].upstream;
        let variables: Box<[Box<str>]> =
            binding.template.variables().iter().map(|variable| variable.field().into()).collect();
        let names: Vec<&str> = variables.iter().map(AsRef::as_ref).collect();
        let what = format!("{}: {} {}", method.name, binding.method, binding.template);
        let plan = RequestPlan::compile(plans, method.input, &names, &binding.body).and_then(|request| {
            let reply = ReplyPlan::compile(plans, method.output, binding.response_body.as_deref())?;
            Ok(Transcoding { request, reply })
        });
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(reason) => {
                return self.note(NoticeKind::LeftOut, upstream, format!("the HTTP rule of {what}: {reason}"));
            }
        };
        let settings = Arc::clone(&self.methods[index].settings);
        for problem in bind_headers(&mut plan, &settings, method.server_streaming) {
            self.note(NoticeKind::LeftOut, upstream, format!("the HTTP rule of {what}: {problem}"));
        }
        let inserted = self.router.insert(&binding.method, &binding.template, self.bindings.len());
        match inserted.map_err(|conflict| *conflict.existing) {
            Ok(()) => self.bindings.push(Binding {
                method: index,
                http_method: binding.method.to_string(),
                template: binding.template.to_string().into(),
                variables,
                body: binding.body,
                response_body: binding.response_body,
                plan,
            }),
            Err(existing) => {
                let keeper = &self.bindings[existing];
                let text = format!(
                    "{what} is the same path as {} {} of {}, which keeps it",
                    keeper.http_method, keeper.template, self.methods[keeper.method].name
                );
                self.note(NoticeKind::Conflict, upstream, text);
            }
        }
    }

    /// Tells of HTTP rules that a later one, less specific, makes useless for some methods.
    fn note_replaced_rules(&mut self) {
        for upstream in 0..self.upstreams.len() {
            let methods = self.methods.iter().filter(|method| method.upstream == upstream);
            let texts: Vec<_> = self
                .rules
                .replaced(methods.map(|method| &*method.name))
                .into_iter()
                .map(|it| self.replaced(it))
                .collect();
            texts.into_iter().for_each(|text| self.note(NoticeKind::Unused, upstream, text));
        }
    }

    fn replaced(&self, Replaced { rule, by, method, further }: Replaced<'_>) -> String {
        let rules = &self.config.http_rules;
        let more = if further > 0 { format!(" and {further} more") } else { String::new() };
        format!(
            "http_rules[{rule}] (`{}`) is replaced by http_rules[{by}] (`{}`) for {method}{more}: the last rule that selects a \
             method counts, so put the general one first",
            rules[rule].selector, rules[by].selector
        )
    }

    fn finish(self, config: Arc<Config>) -> Snapshot {
        let services: HashSet<_> = self.served.iter().flatten().cloned().collect();
        let methods = self.methods.iter().map(|method| Arc::clone(&method.name));
        let spellings = methods.chain(services.iter().cloned()).collect();
        let schemas: Vec<_> = self
            .upstreams
            .iter()
            .zip(self.served)
            .filter_map(|(upstream, served)| Some((Arc::clone(upstream.schema.schema()?), served)))
            .collect();
        Snapshot {
            reflection: Index::new(&schemas),
            config,
            upstreams: self.upstreams,
            methods: self.methods,
            by_name: self.by_name,
            services,
            spellings,
            router: self.router.build(),
            bindings: self.bindings,
            notices: self.notices,
            builtin: Plans::new(Schema::builtin()),
        }
    }
}

/// Binds headers to fields as the settings say; returns what cannot be bound. The headers of a stream are sent before its
/// messages, so that none of these can set them.
fn bind_headers(plan: &mut Transcoding, settings: &MethodSettings, server_streaming: bool) -> Vec<String> {
    let request = plan.request.bind_headers(settings.request_headers.iter().map(|(name, field)| (name, &**field)));
    let reply = match settings.reply_headers.first() {
        Some((name, _)) if server_streaming => Err(format!("the header {name} is set by no field of a stream")),
        _ => plan.reply.bind_headers(settings.reply_headers.iter().map(|(name, field)| (name, &**field))),
    };
    [request, reply].into_iter().filter_map(Result::err).collect()
}
