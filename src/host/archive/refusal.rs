use std::io;

/// Why an archive is not taken. The texts are a promise: `tests/archives` has at least one hostile
/// archive for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    // What it is.
    #[error("it is {0}, not a tar or zip archive")]
    Format(&'static str),
    #[error("it ends in the middle")]
    Truncated,
    #[error("its compression is damaged: {0}")]
    Damaged(String),
    #[error("there is data after its end")]
    Trailing,
    #[error("it holds no file")]
    Empty,
    // Headers of tar.
    #[error("a header's checksum is wrong")]
    Checksum,
    #[error("a header is of no known tar format")]
    Magic,
    #[error("the {0} in a header is no number we take")]
    Number(&'static str),
    #[error("an entry has the unknown type {0:?}")]
    Type(char),
    #[error("an entry is a device")]
    Device,
    #[error("an entry is a named pipe")]
    Fifo,
    #[error("an entry is a socket")]
    Socket,
    #[error("an entry is a sparse file")]
    Sparse,
    #[error("an entry continues from or into another volume")]
    Volume,
    #[error("an entry that has no content announces some")]
    Content,
    #[error("a header is read differently by different programs (GNU format with a prefix)")]
    GnuPrefix,
    #[error("a long name is not one text ended by one zero byte")]
    LongName,
    #[error("an extended header is not well formed")]
    Pax,
    #[error("an extended header has the key `{0}`")]
    PaxKey(String),
    #[error("an extended header has the key `{0}` twice")]
    PaxTwice(String),
    #[error("an extended header for all entries has the key `{0}`")]
    PaxGlobal(String),
    #[error("a header and its extended header announce different sizes")]
    PaxSize,
    #[error("two headers give the same entry a name")]
    TwoNames,
    #[error("an extended header is followed by no entry")]
    Dangling,
    #[error("an extended header is longer than {0} bytes")]
    HeaderTooLong(u64),
    // Names.
    #[error("a name is empty")]
    NameEmpty,
    #[error("a name is not UTF-8")]
    NameUtf8,
    #[error("a name holds a control character")]
    NameControl,
    #[error("a name holds an invisible character that changes how it is shown")]
    NameInvisible,
    #[error("a name holds a backslash")]
    NameBackslash,
    #[error("a name begins with `/`")]
    NameAbsolute,
    #[error("a name holds `..`")]
    NameParent,
    #[error("a name holds an empty or `.` component")]
    NameComponent,
    #[error("a name is longer than {0} bytes")]
    NameTooLong(usize),
    #[error("a name has more than {0} components")]
    NameTooDeep(usize),
    #[error("a file's name ends with `/`")]
    NameOfDirectory,
    // What is made of it.
    #[error("a file is set-user-ID or set-group-ID")]
    SetId,
    #[error("two entries have this name")]
    Twice,
    #[error("two entries of different types have this name")]
    Clash,
    #[error("an entry lies below another that is not a directory")]
    BelowFile,
    #[error("an entry lies below a symbolic link")]
    BelowLink,
    #[error("a symbolic link and another entry differ only in upper and lower case")]
    CaseOfLink,
    #[error("a link's target is empty, too long or unprintable")]
    LinkText,
    #[error("a symbolic link points to an absolute path")]
    LinkAbsolute,
    #[error("a symbolic link points outside")]
    LinkOutside,
    #[error("a symbolic link's target goes up again after going down")]
    LinkTwisted,
    #[error("a hard link's target is not a file already unpacked from this archive")]
    HardLink,
    // Limits.
    #[error("it has more than {0} entries")]
    Entries(u64),
    #[error("it unpacks to more than {0} bytes")]
    Bytes(u64),
    #[error("it unpacks to more than {0} times its size")]
    Ratio(u64),
    // zip.
    #[error("its end record is missing or not at its end")]
    ZipEnd,
    #[error("it is in several parts")]
    ZipParts,
    #[error("it uses the 64-bit format")]
    Zip64,
    #[error("its directory does not match its end record")]
    ZipDirectory,
    #[error("an entry's own header does not match the directory: {0}")]
    ZipMismatch(&'static str),
    #[error("entries overlap, or something lies between them")]
    ZipLayout,
    #[error("an entry is encrypted")]
    ZipEncrypted,
    #[error("an entry is compressed by method {0}")]
    ZipMethod(u16),
    #[error("an entry has another length than announced")]
    ZipSize,
    #[error("an entry's type and name do not match")]
    ZipType,
}

/// An unpacking that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Speaks about the archive; the entry is shown escaped.
    #[error("the archive is refused: {reason}{}", entry.as_deref().map(|name| format!(" (`{name}`)")).unwrap_or_default())]
    Refused { reason: Reason, entry: Option<String> },
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("cannot write `{0}`")]
    Write(String, #[source] io::Error),
}

impl From<Reason> for UnpackError {
    fn from(reason: Reason) -> Self {
        UnpackError::Refused { reason, entry: None }
    }
}

impl UnpackError {
    /// Adds which entry it was, if that is not known yet.
    pub(super) fn at(self, name: &[u8]) -> Self {
        match self {
            UnpackError::Refused { reason, entry: None } => UnpackError::Refused { reason, entry: Some(shown(name)) },
            other => other,
        }
    }

    /// The disk or a quota is full.
    pub fn is_full(&self) -> bool {
        match self {
            UnpackError::Write(_, error) => is_full(error),
            UnpackError::Refused { .. } | UnpackError::Read(_) => false,
        }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A refusal found inside a reader travels as an [`io::Error`] and is taken out again here. What a
/// decoder itself says is about the archive too; only the operating system's own errors are about
/// the machine.
pub(super) fn from_reader(error: io::Error) -> UnpackError {
    if error.raw_os_error().is_some() {
        return UnpackError::Read(error);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Reason::Truncated.into();
    }
    match error.downcast::<Reason>() {
        Ok(reason) => reason.into(),
        Err(error) => Reason::Damaged(shown(error.to_string().as_bytes())).into(),
    }
}

/// Hostile text made safe to show: escaped, and cut at 200 characters.
pub(super) fn shown(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(200).collect();
    text.escape_debug().to_string()
}

/// Text that was escaped once already, without what could move a cursor.
pub(super) fn shown_plain(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(600).collect();
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
