//! The files of one compilation: their documents, each with the place where it was written, and the memory of what was
//! parsed before. Called by the compiler first, and last, when refusals need their places.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::document::{FieldPath, Mark, chunks, parse};
use crate::limits::{MAX_DOCUMENTS, MAX_FILE_BYTES, MAX_TOTAL_BYTES};
use crate::refusal::Refusal;
use crate::resource::{Document, PlacedFault, read};

/// A file that somebody wrote.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path as the user named it; used in messages, and its folder is where relative module files are looked for.
    pub path: PathBuf,
    /// What it holds.
    pub text: Arc<str>,
}

/// What a chunk of a file holds; the same for every chunk of the same text.
#[derive(Debug)]
struct ChunkContent {
    documents: Vec<Arc<Document>>,
    broken: Option<PlacedFault>,
}

/// A document, and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct SourceDocument {
    /// The document.
    pub(crate) document: Arc<Document>,
    file: usize,
    /// The chunk's text in the file, in bytes.
    start: usize,
    end: usize,
    lines_before: u32,
    /// Which of the chunk's documents it is.
    position: usize,
    /// The hash of the chunk's text.
    pub(crate) hash: ChunkHash,
}

/// The files of one compilation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    files: Vec<SourceFile>,
    documents: Vec<SourceDocument>,
    /// Chunks that cannot be read, and files that are too large.
    broken: Vec<(usize, u32, PlacedFault)>,
}

/// Where a refusal belongs in the order: file, line, column.
type Position = (usize, u32, u32);

impl Sources {
    /// One file by itself.
    pub(crate) fn of(file: &SourceFile) -> Self {
        ChunkCache::default().read(std::slice::from_ref(file))
    }

    /// Everything that the documents refuse by themselves, in the order written.
    pub(crate) fn refusals_in_order(&self) -> Vec<Refusal> {
        let mut own = self.own_refusals();
        own.sort_by_key(|(position, _)| *position);
        own.into_iter().map(|(_, refusal)| refusal).collect()
    }

    /// All documents, in the order written.
    pub(crate) fn documents(&self) -> &[SourceDocument] {
        &self.documents
    }

    /// True when some text could not be read at all, so that anything may be written there.
    pub(crate) fn is_partly_unreadable(&self) -> bool {
        !self.broken.is_empty()
    }

    /// The path of the file that a document is in.
    pub(crate) fn path(&self, document: usize) -> &PathBuf {
        &self.files[self.documents[document].file].path
    }

    /// The first line of a document, from 1.
    pub(crate) fn line(&self, document: usize) -> u32 {
        let document = &self.documents[document];
        document.document.start.line.saturating_add(document.lines_before)
    }

    /// Everything that the documents refuse by themselves.
    pub(crate) fn own_refusals(&self) -> Vec<(Position, Refusal)> {
        let own = self.documents.iter().flat_map(|source| {
            let label = source.document.label.as_ref();
            source.document.faults.iter().map(move |fault| (source.file, source.lines_before, label, fault))
        });
        let broken = self.broken.iter().map(|(file, lines_before, fault)| (*file, *lines_before, None, fault));
        own.chain(broken)
            .map(|(file, lines_before, label, fault)| self.placed(file, lines_before, label, fault))
            .collect()
    }

    /// A refusal of a field of a document that was found later.
    pub(crate) fn refusal(&self, document: usize, path: &FieldPath, reason: &str, hint: &str) -> (Position, Refusal) {
        let source = &self.documents[document];
        let fault = PlacedFault {
            mark: self.locate(source, path).unwrap_or(source.document.start),
            field: path.to_string(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        };
        self.placed(source.file, source.lines_before, source.document.label.as_ref(), &fault)
    }

    // The tree is not kept after the checks: it would be most of the memory, and is needed again only when something
    // is refused.
    fn locate(&self, source: &SourceDocument, path: &FieldPath) -> Option<Mark> {
        let text = self.files[source.file].text.get(source.start..source.end)?;
        parse(text).documents.get(source.position).map(|document| document.tree.locate(path))
    }

    fn placed(
        &self,
        file: usize,
        lines_before: u32,
        label: Option<&String>,
        fault: &PlacedFault,
    ) -> (Position, Refusal) {
        let line = fault.mark.line.saturating_add(lines_before);
        let refusal = Refusal {
            file: self.files[file].path.clone(),
            line,
            column: fault.mark.column,
            object: label.cloned(),
            field: fault.field.clone(),
            reason: fault.reason.clone(),
            hint: fault.hint.clone(),
        };
        ((file, line, fault.mark.column), refusal)
    }
}

/// SHA-256 of a chunk's text.
pub(crate) type ChunkHash = [u8; 32];

/// Chunks that were parsed before, by the hash of their text. Holds what the last good files and the last refused files
/// were made of, no more.
#[derive(Debug, Default)]
pub(crate) struct ChunkCache {
    good: HashMap<ChunkHash, Arc<ChunkContent>>,
    refused: HashMap<ChunkHash, Arc<ChunkContent>>,
    used: HashMap<ChunkHash, Arc<ChunkContent>>,
}

impl ChunkCache {
    /// Reads all files; only chunks that are new are parsed and checked.
    pub(crate) fn read(&mut self, files: &[SourceFile]) -> Sources {
        self.used = HashMap::with_capacity(self.good.len());
        let mut sources = Sources { files: files.to_vec(), ..Sources::default() };
        let mut total_bytes = 0_usize;
        for (index, file) in files.iter().enumerate() {
            total_bytes = total_bytes.saturating_add(file.text.len());
            if file.text.len() > MAX_FILE_BYTES || total_bytes > MAX_TOTAL_BYTES {
                let (what, most) = match file.text.len() > MAX_FILE_BYTES {
                    true => ("this file", MAX_FILE_BYTES),
                    false => ("this file and those before it", MAX_TOTAL_BYTES),
                };
                sources.broken.push((index, 0, too_large(format!("{what} have more than {most} bytes"))));
                continue;
            }
            self.read_file(index, &file.text, &mut sources);
        }
        sources
    }

    /// The files that were just read are good: what only others needed is forgotten.
    pub(crate) fn keep_as_good(&mut self) {
        self.good = std::mem::take(&mut self.used);
        self.refused = HashMap::new();
    }

    /// The files that were just read were refused: what the good ones need is kept beside what they need.
    pub(crate) fn keep_as_refused(&mut self) {
        self.refused = std::mem::take(&mut self.used);
    }

    fn read_file(&mut self, file: usize, text: &str, sources: &mut Sources) {
        let mut count = 0_usize;
        for chunk in chunks(text) {
            let (hash, content) = self.content(chunk.text);
            let start = (chunk.text.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            for (position, document) in content.documents.iter().enumerate() {
                let (document, end) = (document.clone(), start + chunk.text.len());
                let lines_before = chunk.lines_before;
                sources.documents.push(SourceDocument { document, file, start, end, lines_before, position, hash });
            }
            if let Some(fault) = &content.broken {
                sources.broken.push((file, chunk.lines_before, fault.clone()));
            }
            count += content.documents.len();
            if count > MAX_DOCUMENTS {
                let reason = format!("this file has more than {MAX_DOCUMENTS} documents");
                sources.broken.push((file, chunk.lines_before, too_large(reason)));
                return;
            }
        }
    }

    fn content(&mut self, text: &str) -> (ChunkHash, Arc<ChunkContent>) {
        let hash: ChunkHash = Sha256::digest(text.as_bytes()).into();
        let known = self.used.get(&hash).or_else(|| self.good.get(&hash)).or_else(|| self.refused.get(&hash));
        let content = known.cloned().unwrap_or_else(|| Arc::new(content_of(text)));
        self.used.insert(hash, content.clone());
        (hash, content)
    }
}

fn content_of(text: &str) -> ChunkContent {
    let parsed = parse(text);
    let broken = parsed.broken.map(|fault| PlacedFault {
        mark: fault.mark.unwrap_or(Mark { line: 1, column: 1 }),
        field: fault.path.to_string(),
        reason: fault.reason,
        hint: fault.hint,
    });
    ChunkContent { documents: parsed.documents.into_iter().map(|document| Arc::new(read(document))).collect(), broken }
}

fn too_large(reason: String) -> PlacedFault {
    PlacedFault { mark: Mark { line: 1, column: 1 }, field: String::new(), reason, hint: "split it".to_owned() }
}
