//! The configuration: steps by path and callback. Arguments are numbers, `"texts"` with escapes (`\0`, `\n`, `\"`, `\\`,
//! `\xNN`), `@1,2` for two bare numbers where bytes or a place for them are expected, and names of known numbers.

/// What to do when.
#[derive(Default)]
pub(crate) struct Script {
    steps: Vec<(String, String, Step)>,
    /// The first tick has been.
    pub(crate) ticked: bool,
}

/// One thing to do.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) call: String,
    pub(crate) arguments: Vec<Argument>,
}

/// One argument of a hostcall.
#[derive(Clone)]
pub(crate) enum Argument {
    Number(i64),
    Known(String),
    Bytes(Vec<u8>),
    Bare(i64, i64),
}

impl Argument {
    pub(crate) fn number(&self, known: &[(&'static str, i64)]) -> i64 {
        match self {
            Self::Number(number) | Self::Bare(number, _) => *number,
            Self::Known(name) => known.iter().find(|(known, _)| known == name).map_or(0, |(_, number)| *number),
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
            Some((path.to_owned(), callback.to_owned(), Step { call: call.to_owned(), arguments }))
        });
        Self { steps: steps.collect(), ticked: false }
    }

    /// The steps of a path in a callback.
    pub(crate) fn steps(&self, path: &str, callback: &str) -> Vec<Step> {
        let path = path.split('?').next().unwrap_or_default();
        let wanted = |(of, at, _): &&(String, String, Step)| of == path && at == callback;
        self.steps.iter().filter(wanted).map(|(_, _, step)| step.clone()).collect()
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
    word.parse().map_or_else(|_| Argument::Known(word.to_owned()), Argument::Number)
}

/// The bytes up to the closing quote, and what follows it.
fn unquote(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut letters = text.bytes().enumerate();
    while let Some((at, letter)) = letters.next() {
        match letter {
            b'"' => return (bytes, &text[at + 1..]),
            b'\\' => bytes.push(match letters.next() {
                Some((_, b'0')) => 0,
                Some((_, b'n')) => b'\n',
                Some((_, b'x')) => {
                    let mut digit = || letters.next().map_or(0, |(_, digit)| (digit as char).to_digit(16).unwrap_or(0));
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
