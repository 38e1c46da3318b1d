//! Links the methods of services, and reads their HTTP annotations.

use std::sync::Arc;

use hashbrown::HashSet;
use prost::Message as _;

use super::broken::Broken;
use super::declaration::{MethodDeclaration, ServiceDeclaration};
use super::link::{Imports, Problems};
use super::names::{Names, PendingService, is_identifier, shorten};
use super::{MessageId, Method, Service, Symbol};
use crate::pb::google::api::HttpRule;
use crate::pb::google::protobuf::method_options::IdempotencyLevel;

/// # Errors
/// Why the service is left out.
pub(super) fn link_service(
    pending: &PendingService<'_>,
    names: &Names<'_>,
    imports: &Imports<'_>,
    broken: &Broken,
    problems: &mut Problems,
) -> Result<Service, String> {
    let malformed = |_| String::from("its descriptor is malformed");
    let declaration = ServiceDeclaration::read(pending.raw).map_err(malformed)?;
    let message = |method: &str, type_name: &str| -> Result<MessageId, String> {
        let id = match names.resolve(&pending.name, type_name) {
            Some(Symbol::Message(id)) => id,
            Some(Symbol::Enum(_) | Symbol::Service(_)) => {
                return Err(format!("method {method}: {:?} is not a message", shorten(type_name)));
            }
            None => return Err(format!("method {method}: {}", imports.explain_missing(pending.file, type_name))),
        };
        broken.reason(id).map_or(Ok(id), |reason| Err(format!("method {method} needs {reason}")))
    };

    let mut methods = Vec::with_capacity(declaration.methods.len());
    let mut taken = HashSet::with_capacity(declaration.methods.len());
    for raw in declaration.methods {
        let method = MethodDeclaration::read(raw).map_err(malformed)?;
        if !is_identifier(method.name) || !taken.insert(method.name) {
            return Err(format!("method name {:?} is not an identifier or stands twice", shorten(method.name)));
        }
        let name: Arc<str> = Arc::from(format!("{}/{}", pending.name, method.name));
        let level = IdempotencyLevel::try_from(method.idempotency).unwrap_or_default();
        let http = method.http.filter(|rule| {
            let sound = HttpRule::decode(rule.as_slice()).is_ok();
            if !sound {
                problems.note(name.to_string(), String::from("its google.api.http annotation is malformed"));
            }
            sound
        });
        methods.push(Method {
            name,
            input: message(method.name, method.input)?,
            output: message(method.name, method.output)?,
            client_streaming: method.client_streaming,
            server_streaming: method.server_streaming,
            side_effect_free: level == IdempotencyLevel::NoSideEffects,
            idempotent: matches!(level, IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent),
            http: http.map(Vec::into_boxed_slice),
        });
    }
    Ok(Service { name: Arc::clone(&pending.name), methods: methods.into(), file: pending.file })
}
