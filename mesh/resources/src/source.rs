//! The files of one compilation, their documents with source positions, and the parse cache. Called by the compiler
//! first, and again to locate diagnostics.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::diagnostic::Diagnostic;
use crate::limits::{MAX_DOCUMENTS, MAX_FILE_BYTES, MAX_TOTAL_BYTES};
use crate::resource::{Document, LocatedFieldError, parse_resources, read_document};
use crate::yaml::{FieldError, FieldPath, ParsedDocument, Position, chunks};

/// A source file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The path as the user named it. Messages show it; a relative module path starts at its folder.
    pub path: PathBuf,
    /// The file's text.
    pub text: Arc<str>,
}

/// The parsed content of a chunk. Chunks of equal text share it.
#[derive(Debug)]
struct ChunkContent {
    documents: Box<[Arc<Document>]>,
    /// Boxed, because it is rare.
    parse_error: Option<Box<LocatedFieldError>>,
}

/// A document with its position in the files.
#[derive(Debug, Clone)]
pub(crate) struct SourceDocument {
    /// The validated document.
    pub(crate) document: Arc<Document>,
    file: u32,
    /// The byte offset of the chunk's text in the file, which has at most [`MAX_FILE_BYTES`].
    start: u32,
    end: u32,
    lines_before: u32,
    /// The index of the document among those of its chunk.
    index_in_chunk: u32,
    /// SHA-256 of the chunk's text.
    pub(crate) hash: ChunkHash,
}

/// A document by content: equal keys mean equal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DocumentKey {
    chunk: ChunkHash,
    index_in_chunk: u32,
}

impl SourceDocument {
    /// Returns the document's key for caches.
    pub(crate) const fn key(&self) -> DocumentKey {
        DocumentKey { chunk: self.hash, index_in_chunk: self.index_in_chunk }
    }
}

/// The files of one compilation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    files: Vec<SourceFile>,
    /// False after [`Sources::drop_texts`].
    has_texts: bool,
    documents: Vec<SourceDocument>,
    /// Chunks with a YAML error and files over the size limit: file index, lines before the chunk, error.
    unreadable: Vec<(usize, u32, LocatedFieldError)>,
}

/// The nodes of the chunk that was parsed last to locate an error. A chunk may be a list with thousands of errors.
#[derive(Debug, Default)]
pub(crate) struct LastChunk {
    hash: Option<ChunkHash>,
    documents: Vec<ParsedDocument>,
}

/// The order of a diagnostic: file index, line, column.
pub(crate) type SortKey = (usize, u32, u32);

impl Sources {
    /// Parses one file without a cache.
    pub(crate) fn from_file(file: &SourceFile) -> Self {
        ChunkCache::default().read(std::slice::from_ref(file))
    }

    /// Returns the errors within single documents, in source order.
    pub(crate) fn diagnostics_in_order(&self) -> Vec<Diagnostic> {
        let mut diagnostics = self.document_diagnostics();
        diagnostics.sort_by_key(|(key, _)| *key);
        diagnostics.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }

    /// Drops the texts of the files. A later diagnostic reads the file again.
    pub(crate) fn drop_texts(&mut self) {
        self.has_texts = false;
        for file in &mut self.files {
            file.text = Arc::default();
        }
    }

    /// Returns all documents, in source order.
    pub(crate) fn documents(&self) -> &[SourceDocument] {
        &self.documents
    }

    /// Returns true if a chunk or file was not parsed, so that any object may be in it.
    pub(crate) fn is_partly_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// Returns the path of the file of a document.
    pub(crate) fn path(&self, document: usize) -> &PathBuf {
        &self.files[self.documents[document].file as usize].path
    }

    /// Returns the first line of a document, from 1.
    pub(crate) fn line(&self, document: usize) -> u32 {
        let document = &self.documents[document];
        document.document.start.line.saturating_add(document.lines_before)
    }

    /// Returns the errors within single documents, unordered, with their sort keys.
    pub(crate) fn document_diagnostics(&self) -> Vec<(SortKey, Diagnostic)> {
        let documents = self.documents.iter().flat_map(|source| {
            let label = source.document.label();
            let errors = source.document.errors.iter();
            errors.map(move |error| (source.file as usize, source.lines_before, label.clone(), error))
        });
        let unreadable = self.unreadable.iter().map(|(file, lines_before, error)| (*file, *lines_before, None, error));
        documents
            .chain(unreadable)
            .map(|(file, lines_before, label, error)| self.to_diagnostic(file, lines_before, label, error))
            .collect()
    }

    /// Returns the diagnostic of an error in a field of a document, with its sort key. `last` speeds up the next error
    /// of the same chunk.
    pub(crate) fn diagnostic(
        &self,
        document: usize,
        error: &FieldError,
        last: &mut LastChunk,
    ) -> (SortKey, Diagnostic) {
        let FieldError { path, position: _, reason, hint } = error;
        let source = &self.documents[document];
        let located = LocatedFieldError {
            position: self.locate(source, path, last).unwrap_or(source.document.start),
            field: path.to_string(),
            reason: reason.clone(),
            hint: hint.clone(),
        };
        self.to_diagnostic(source.file as usize, source.lines_before, source.document.label(), &located)
    }

    // The nodes are not stored after validation: they would be most of the memory. Only an error needs them again, so
    // the chunk is parsed again here.
    fn locate(&self, source: &SourceDocument, path: &FieldPath, last: &mut LastChunk) -> Option<Position> {
        if last.hash != Some(source.hash) {
            let file = &self.files[source.file as usize];
            let read_again = if self.has_texts { None } else { Some(fs::read_to_string(&file.path).ok()?) };
            let text = read_again.as_deref().unwrap_or(&file.text);
            let text = text.get(source.start as usize..source.end as usize)?;
            if read_again.is_some() && chunk_hash(text) != source.hash {
                return None; // It has changed.
            }
            *last = LastChunk { hash: Some(source.hash), documents: parse_resources(text).documents };
        }
        last.documents.get(source.index_in_chunk as usize).map(|document| document.root.locate(path))
    }

    fn to_diagnostic(
        &self,
        file: usize,
        lines_before: u32,
        label: Option<String>,
        error: &LocatedFieldError,
    ) -> (SortKey, Diagnostic) {
        let line = error.position.line.saturating_add(lines_before);
        let diagnostic = Diagnostic {
            file: self.files[file].path.clone(),
            line,
            column: error.position.column,
            object: label,
            field: error.field.clone(),
            reason: error.reason.clone(),
            hint: error.hint.clone(),
        };
        ((file, line, error.position.column), diagnostic)
    }
}

/// SHA-256 of a chunk's text.
pub(crate) type ChunkHash = [u8; 32];

fn chunk_hash(text: &str) -> ChunkHash {
    Sha256::digest(text.as_bytes()).into()
}

/// Parsed chunks by the hash of their text. Bounded by the content of the last valid files and the last invalid files.
#[derive(Debug, Default)]
pub(crate) struct ChunkCache {
    valid: HashMap<ChunkHash, Arc<ChunkContent>>,
    invalid: HashMap<ChunkHash, Arc<ChunkContent>>,
    used: HashMap<ChunkHash, Arc<ChunkContent>>,
}

impl ChunkCache {
    /// Parses and validates the files. Only chunks that are not cached are parsed.
    pub(crate) fn read(&mut self, files: &[SourceFile]) -> Sources {
        self.used = HashMap::with_capacity(self.valid.len());
        let mut sources = Sources { files: files.to_vec(), has_texts: true, ..Sources::default() };
        let mut total_bytes = 0_usize;
        for (index, file) in files.iter().enumerate() {
            total_bytes = total_bytes.saturating_add(file.text.len());
            if file.text.len() > MAX_FILE_BYTES || total_bytes > MAX_TOTAL_BYTES {
                let (subject, limit) = match file.text.len() > MAX_FILE_BYTES {
                    true => ("this file", MAX_FILE_BYTES),
                    false => ("this file and those before it", MAX_TOTAL_BYTES),
                };
                sources.unreadable.push((index, 0, size_error(format!("{subject} have more than {limit} bytes"))));
                continue;
            }
            self.read_file(index, &file.text, &mut sources);
        }
        sources.documents.shrink_to_fit();
        sources
    }

    /// Marks the files of the last `read` as valid, and evicts all other chunks.
    pub(crate) fn commit_valid(&mut self) {
        self.valid = std::mem::take(&mut self.used);
        self.invalid = HashMap::new();
    }

    /// Marks the files of the last `read` as invalid. The chunks of the last valid files stay cached as well.
    pub(crate) fn commit_invalid(&mut self) {
        self.invalid = std::mem::take(&mut self.used);
    }

    fn read_file(&mut self, file: usize, text: &str, sources: &mut Sources) {
        let mut count = 0_usize;
        for chunk in chunks(text) {
            let (hash, content) = self.content(chunk.text);
            let start = (chunk.text.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            for (index_in_chunk, document) in content.documents.iter().enumerate() {
                sources.documents.push(SourceDocument {
                    document: Arc::clone(document),
                    file: compact(file),
                    start: compact(start),
                    end: compact(start + chunk.text.len()),
                    lines_before: chunk.lines_before,
                    index_in_chunk: compact(index_in_chunk),
                    hash,
                });
            }
            if let Some(error) = &content.parse_error {
                sources.unreadable.push((file, chunk.lines_before, LocatedFieldError::clone(error)));
            }
            count += content.documents.len();
            if count > MAX_DOCUMENTS {
                let reason = format!("this file has more than {MAX_DOCUMENTS} documents");
                sources.unreadable.push((file, chunk.lines_before, size_error(reason)));
                return;
            }
        }
    }

    fn content(&mut self, text: &str) -> (ChunkHash, Arc<ChunkContent>) {
        let hash = chunk_hash(text);
        let known = self.used.get(&hash).or_else(|| self.valid.get(&hash)).or_else(|| self.invalid.get(&hash));
        let content = known.cloned().unwrap_or_else(|| Arc::new(parse_chunk(text)));
        self.used.insert(hash, content.clone());
        (hash, content)
    }
}

/// Returns a number of a file, of a byte in a file, or of a document. All are below [`MAX_TOTAL_BYTES`].
fn compact(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn parse_chunk(text: &str) -> ChunkContent {
    let parsed = parse_resources(text);
    let parse_error = parsed.parse_error.map(|error| LocatedFieldError {
        position: error.position.unwrap_or(Position { line: 1, column: 1 }),
        field: error.path.to_string(),
        reason: error.reason,
        hint: error.hint,
    });
    let mut documents = Vec::with_capacity(parsed.documents.len()); // `collect` would reuse the larger allocation.
    documents.extend(parsed.documents.into_iter().map(|document| Arc::new(read_document(document))));
    ChunkContent { documents: documents.into_boxed_slice(), parse_error: parse_error.map(Box::new) }
}

fn size_error(reason: String) -> LocatedFieldError {
    LocatedFieldError {
        position: Position { line: 1, column: 1 },
        field: String::new(),
        reason,
        hint: "split it".to_owned(),
    }
}
