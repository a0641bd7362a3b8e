//! The configuration: steps by path and callback. Arguments are numbers, `"texts"` with escapes (`\0`, `\n`, `\"`,
//! `\\`,
//! `\xNN`), `@1,2` for the pointer and size of bytes or of an output, and names of numbers such as `ctx`.

/// Steps of all paths and callbacks.
#[derive(Default)]
pub(crate) struct Script {
    steps: Vec<Step>,
    /// True after the first tick.
    pub(crate) ticked: bool,
}

/// One step: a hostcall, or `return` or `trap`.
#[derive(Clone)]
pub(crate) struct Step {
    path: String,
    callback: String,
    pub(crate) call: String,
    pub(crate) arguments: Vec<Argument>,
}

/// One argument of a hostcall.
#[derive(Clone)]
pub(crate) enum Argument {
    Number(i64),
    Named(String),
    Bytes(Vec<u8>),
    Bare(i64, i64),
}

impl Argument {
    pub(crate) fn number(&self, named_numbers: &[(&'static str, i64)]) -> i64 {
        match self {
            Self::Number(number) | Self::Bare(number, _) => *number,
            Self::Named(name) => named_numbers.iter().find(|(key, _)| key == name).map_or(0, |(_, number)| *number),
            Self::Bytes(_) => 0,
        }
    }
}

impl Script {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let steps = text.lines().filter_map(|line| {
            let mut words = line.trim().splitn(4, ' ');
            let (path, callback, call) = (words.next()?, words.next()?, words.next()?);
            let arguments = arguments(words.next().unwrap_or_default());
            Some(Step { path: path.to_owned(), callback: callback.to_owned(), call: call.to_owned(), arguments })
        });
        Self { steps: steps.collect(), ticked: false }
    }

    /// Returns the steps of a path in a callback. The path's query is ignored.
    pub(crate) fn steps(&self, path: &str, callback: &str) -> Vec<Step> {
        let path = path.split('?').next().unwrap_or_default();
        let selected = self.steps.iter().filter(|step| step.path == path && step.callback == callback);
        selected.cloned().collect()
    }
}

fn arguments(text: &str) -> Vec<Argument> {
    let mut rest = text.trim();
    let mut arguments = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (bytes, after) = unquote(quoted);
            arguments.push(Argument::Bytes(bytes));
            rest = after.trim_start();
            continue;
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        arguments.push(bare(word));
        rest = after.trim_start();
    }
    arguments
}

fn bare(word: &str) -> Argument {
    if let Some((first, second)) = word.strip_prefix('@').and_then(|pair| pair.split_once(',')) {
        return Argument::Bare(first.parse().unwrap_or_default(), second.parse().unwrap_or_default());
    }
    word.parse().map_or_else(|_| Argument::Named(word.to_owned()), Argument::Number)
}

/// Returns the bytes up to the closing quote, and the text after it.
fn unquote(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut chars = text.bytes().enumerate();
    while let Some((at, byte)) = chars.next() {
        match byte {
            b'"' => return (bytes, &text[at + 1..]),
            b'\\' => bytes.push(match chars.next() {
                Some((_, b'0')) => 0,
                Some((_, b'n')) => b'\n',
                Some((_, b'x')) => {
                    let mut digit = || chars.next().map_or(0, |(_, digit)| (digit as char).to_digit(16).unwrap_or(0));
                    (digit() << 4 | digit()) as u8
                }
                Some((_, other)) => other,
                None => b'\\',
            }),
            other => bytes.push(other),
        }
    }
    (bytes, "")
}
