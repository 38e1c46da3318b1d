//! Which of a listener's certificates a client is shown: by the name that it asks for
//! ([RFC 6066 §3](https://www.rfc-editor.org/rfc/rfc6066#section-3), SNI).

use std::sync::Arc;

use hashbrown::HashMap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

/// Certificates by the names in them. Of several for one name, the first whose signature the client understands is shown; who
/// asks for no name, or for one that no certificate has, is shown the first of all.
#[derive(Debug)]
pub(super) struct ByName {
    all: Vec<Arc<CertifiedKey>>,
    /// In lower case; `*.` stands for one label.
    names: HashMap<Box<str>, Vec<usize>>,
}

impl ByName {
    pub(super) fn new(all: Vec<Arc<CertifiedKey>>) -> Self {
        let mut names: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (index, key) in all.iter().enumerate() {
            let own = key.cert.first().and_then(|own| EndEntityCert::try_from(own).ok());
            for name in own.iter().flat_map(|own| own.valid_dns_names()) {
                names.entry(name.to_ascii_lowercase().into()).or_default().push(index);
            }
        }
        Self { all, names }
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_deref().and_then(|name| self.names.get(name));
        let wild = name.as_deref().and_then(|name| name.split_once('.')).map(|(_, domain)| format!("*.{domain}"));
        let wild = wild.and_then(|wild| self.names.get(&*wild));
        let named = exact.into_iter().chain(wild).flatten().filter_map(|index| self.all.get(*index));
        let mut fitting = named.chain(&self.all).filter(|key| key.key.choose_scheme(schemes).is_some());
        fitting.next().cloned()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}
