//! Names of fields as sent, for receivers that distinguish upper and lower case. RFC 9110 §5.1 has no such receivers.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderName;

use crate::rejection::Rejection;

/// The names of a head's fields as sent. Of a name that was sent in two forms it has the first. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentNames(Arc<HeaderMap<Bytes>>);

impl SentNames {
    /// Returns the form in which a name was sent, or the name itself if it was not.
    pub fn get<'a>(&'a self, name: &'a HeaderName) -> &'a [u8] {
        self.0.get(name).map_or(name.as_str().as_bytes(), |sent| sent)
    }

    /// Returns the names of parsed fields of `section`; `None` if all of them are in lower case.
    ///
    /// # Errors
    /// `http` rejects a name that the parser has accepted.
    pub(crate) fn of(section: &Bytes, fields: &[httparse::Header<'_>]) -> Result<Option<Self>, Rejection> {
        let mut names = HeaderMap::<Bytes>::default();
        for field in fields {
            let sent = field.name.as_bytes();
            let name = HeaderName::from_bytes(sent).map_err(|_| Rejection::FieldName)?;
            // A later form in lower case has no entry of its own: the first form is the name's.
            if !names.contains_key(&name) {
                names.insert(name, section.slice_ref(sent));
            }
        }
        let is_lower_case = names.iter().all(|(name, sent)| name.as_str().as_bytes() == sent);
        Ok((!is_lower_case).then(|| Self(Arc::new(names))))
    }
}
