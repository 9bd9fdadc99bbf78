//! The shape of each request, to check its counts before anything is allocated for them.
//!
//! The protocol crate reserves memory for as many elements as a request announces before it reads the first one, so
//! six bytes of nonsense could ask for hundreds of gigabytes and end the process. Here every announced element has to
//! be there, and their number has a bound.

use kafka_protocol::messages::ApiKey;

/// Most elements of all lists of a request together: well above a request for every partition a broker may have.
const ELEMENTS_MAX: usize = 20_000;

/// What a request's bytes turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misshapen {
    #[error("it ends too early")]
    Short,
    #[error("it has more than {ELEMENTS_MAX} elements")]
    Elements,
    #[error("a length is negative or too long")]
    Length,
}

enum Shape {
    /// So many bytes.
    Fixed(usize),
    /// A string, with a length of 16 bits or compact.
    Text,
    /// Bytes, with a length of 32 bits or compact.
    Blob,
    /// A list of structs.
    List(&'static [Field]),
    /// A list of numbers of so many bytes, or of ids.
    Numbers(usize),
    /// A list of strings.
    Texts,
}

use Shape::{Blob, Fixed, List, Numbers, Text, Texts};

struct Field {
    from: i16,
    until: i16,
    shape: Shape,
}

const fn always(shape: Shape) -> Field {
    Field { from: 0, until: i16::MAX, shape }
}

const fn from(from: i16, shape: Shape) -> Field {
    Field { from, until: i16::MAX, shape }
}

const fn between(from: i16, until: i16, shape: Shape) -> Field {
    Field { from, until, shape }
}

static PRODUCE: &[Field] = &[
    always(Text),
    always(Fixed(2 + 4)),
    always(List(&[always(Text), always(List(&[always(Fixed(4)), always(Blob)]))])),
];
static FETCH: &[Field] = &[
    always(Fixed(4 + 4 + 4 + 4 + 1)),
    from(7, Fixed(4 + 4)),
    always(List(&[
        always(Text),
        always(List(&[
            always(Fixed(4)),
            from(9, Fixed(4)),
            always(Fixed(8)),
            from(12, Fixed(4)),
            from(5, Fixed(8)),
            always(Fixed(4)),
        ])),
    ])),
    from(7, List(&[always(Text), always(Numbers(4))])),
    from(11, Text),
];
static LIST_OFFSETS: &[Field] = &[
    always(Fixed(4)),
    from(2, Fixed(1)),
    always(List(&[always(Text), always(List(&[always(Fixed(4)), from(4, Fixed(4)), always(Fixed(8))]))])),
];
static METADATA: &[Field] = &[
    always(List(&[from(10, Fixed(16)), always(Text)])),
    from(4, Fixed(1)),
    between(8, 10, Fixed(1)),
    from(8, Fixed(1)),
];
static CREATE_TOPICS: &[Field] = &[
    always(List(&[
        always(Text),
        always(Fixed(4 + 2)),
        always(List(&[always(Fixed(4)), always(Numbers(4))])),
        always(List(&[always(Text), always(Text)])),
    ])),
    always(Fixed(4 + 1)),
];
static DELETE_TOPICS: &[Field] =
    &[from(6, List(&[always(Text), always(Fixed(16))])), between(0, 5, Texts), always(Fixed(4))];
static CREATE_PARTITIONS: &[Field] = &[
    always(List(&[always(Text), always(Fixed(4)), always(List(&[always(Numbers(4))]))])),
    always(Fixed(4 + 1)),
];
static DELETE_RECORDS: &[Field] =
    &[always(List(&[always(Text), always(List(&[always(Fixed(4 + 8))]))])), always(Fixed(4))];
static FIND_COORDINATOR: &[Field] = &[between(0, 3, Text), from(1, Fixed(1)), from(4, Texts)];
static INIT_PRODUCER_ID: &[Field] = &[always(Text), always(Fixed(4)), from(3, Fixed(8 + 2))];
static API_VERSIONS: &[Field] = &[from(3, Text), from(3, Text)];

/// Checks a whole request, header included, of a version this broker supports.
pub(crate) fn check(api: ApiKey, version: i16, frame: &[u8]) -> Result<(), Misshapen> {
    let body = match api {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::CreatePartitions => CREATE_PARTITIONS,
        ApiKey::DeleteRecords => DELETE_RECORDS,
        ApiKey::FindCoordinator => FIND_COORDINATOR,
        ApiKey::InitProducerId => INIT_PRODUCER_ID,
        ApiKey::ApiVersions => API_VERSIONS,
        _ => return Ok(()),
    };
    let flexible = api.request_header_version(version) >= 2;
    let mut walk = Walk { rest: frame, version, flexible, elements: 0 };
    walk.skip(2 + 2 + 4)?;
    walk.string(false)?; // the client's name is never compact
    if flexible {
        walk.tags()?;
    }
    walk.fields(body)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Misshapen> {
        for field in fields {
            if (field.from..=field.until).contains(&self.version) {
                self.field(&field.shape)?;
            }
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn field(&mut self, shape: &Shape) -> Result<(), Misshapen> {
        match *shape {
            Fixed(bytes) => self.skip(bytes),
            Text => self.string(self.flexible),
            Blob => {
                let length = self.length()?;
                self.skip(length)
            }
            List(fields) => self.each(|walk| walk.fields(fields)),
            Numbers(bytes) => self.each(|walk| walk.skip(bytes)),
            Texts => self.each(|walk| walk.string(walk.flexible)),
        }
    }

    fn each(&mut self, element: impl Fn(&mut Self) -> Result<(), Misshapen>) -> Result<(), Misshapen> {
        let count = self.length()?;
        self.elements = self.elements.saturating_add(count);
        if self.elements > ELEMENTS_MAX {
            return Err(Misshapen::Elements);
        }
        (0..count).try_for_each(|_| element(self))
    }

    /// A length or count; null counts as 0.
    fn length(&mut self) -> Result<usize, Misshapen> {
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1));
        }
        let length = i32::from_be_bytes(self.take()?);
        if length == -1 { Ok(0) } else { usize::try_from(length).map_err(|_| Misshapen::Length) }
    }

    fn string(&mut self, compact: bool) -> Result<(), Misshapen> {
        let length = if compact {
            self.varint()?.saturating_sub(1)
        } else {
            match i16::from_be_bytes(self.take()?) {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| Misshapen::Length)?,
            }
        };
        self.skip(length)
    }

    fn tags(&mut self) -> Result<(), Misshapen> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<usize, Misshapen> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| Misshapen::Length);
            }
        }
        Err(Misshapen::Length)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Misshapen> {
        let (&taken, rest) = self.rest.split_first_chunk().ok_or(Misshapen::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Misshapen> {
        self.rest = self.rest.get(bytes..).ok_or(Misshapen::Short)?;
        Ok(())
    }
}
