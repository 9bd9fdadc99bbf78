//! The few JSON writers that the hot path needs.

use crate::Decimal;
pub(crate) use crate::record::write_levels;

/// Appends `"value"`, a decimal string.
pub fn write_decimal(out: &mut Vec<u8>, value: Decimal) {
    out.push(b'"');
    value.write(out);
    out.push(b'"');
}

/// Appends `"value"`: 64-bit integers travel as strings, since a JavaScript number cannot hold them.
pub fn write_number(out: &mut Vec<u8>, value: i64) {
    out.push(b'"');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b'"');
}

/// Appends `text` as a JSON string, quoted and escaped.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.extend_from_slice(text.as_bytes());
    } else {
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..0x20 => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    out.extend_from_slice(b"\\u00");
                    out.push(HEX[usize::from(byte >> 4)]);
                    out.push(HEX[usize::from(byte & 15)]);
                }
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}

/// `text` as a JSON string, quoted and escaped.
pub fn string(text: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out.into_boxed_slice()
}
