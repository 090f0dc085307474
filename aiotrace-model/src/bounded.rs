//! How long the lists and names of a recording may be. aiotrace writes nothing longer; a file that has something
//! longer was made by somebody else, and is refused before memory is taken for it.

use std::{borrow::Cow, fmt, marker::PhantomData};

use aiotrace_common::record::{ITEMS_PER_CALL, MOST_VECTORS};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Contexts that are followed at a time.
pub const CONTEXTS: usize = 65_536;
/// Bytes of the name of a process. (The kernel has 16 bytes for a program's, and 64 for its own threads'.)
pub const NAME: usize = 256;
/// Bytes of a path, or of the name of a function.
pub const PATH: usize = 16 << 10;
/// Functions in a stack.
pub const FRAMES: usize = 128;
/// Functions at one place: those inlined there, and the one that they are in.
pub const FUNCTIONS: usize = 64;
/// Bytes of the names of all functions at one place.
pub const FUNCTION_NAMES: usize = 64 << 10;
/// Bytes of a fault rule: no longer than an argument of a program (`MAX_ARG_STRLEN` of Linux).
const RULE: usize = 128 << 10;
/// Bytes of a sentence that aiotrace writes.
const TEXT: usize = 4096;
/// Items of any other list, all of which are short.
const FEW: usize = 64;
/// Threads of an address space in the answer of a look; if there are more, the look has no answer.
pub const THREADS: usize = 1024;
/// Iovecs of a request (`UIO_MAXIOV` of Linux).
const IOVECS: usize = 1024;

/// A list no longer than `MOST`.
pub struct List<T, const MOST: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Items(PhantomData))
    }
}

struct Items<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
    type Value = List<T, MOST>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let announced = items.size_hint().unwrap_or(0);
        if announced > MOST {
            return Err(A::Error::invalid_length(announced, &self));
        }
        let mut list = Vec::with_capacity(announced);
        while let Some(item) = items.next_element()? {
            if list.len() >= MOST {
                return Err(A::Error::invalid_length(list.len(), &self));
            }
            list.push(item);
        }
        Ok(List(list))
    }
}

/// A string no longer than `MOST` bytes.
struct Text<const MOST: usize>(String);

impl<'de, const MOST: usize> Deserialize<'de> for Text<MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Characters::<MOST>)
    }
}

struct Characters<const MOST: usize>;

impl<const MOST: usize> Visitor<'_> for Characters<MOST> {
    type Value = Text<MOST>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at most {MOST} bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text.len() > MOST {
            true => Err(E::invalid_length(text.len(), &self)),
            false => Ok(Text(text.to_owned())),
        }
    }
}

fn list<'de, const MOST: usize, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    List::<T, MOST>::deserialize(from).map(|it| it.0)
}

/// Reads the items of one call.
pub fn items<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    list::<ITEMS_PER_CALL, T, D>(from)
}

/// Reads a list with an item for each context of a process.
pub fn contexts<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    list::<CONTEXTS, T, D>(from)
}

/// Reads a short list.
pub fn few<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    list::<FEW, T, D>(from)
}

/// Reads iovecs, if they are known.
pub fn iovecs<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Option::<List<T, IOVECS>>::deserialize(from)?.map(|it| it.0))
}

/// Reads the iovecs of a request.
pub fn pieces<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    list::<MOST_VECTORS, T, D>(from)
}

/// Reads threads, if they are known.
pub fn threads<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Option::<List<T, THREADS>>::deserialize(from)?.map(|it| it.0))
}

/// Reads the name of a process.
pub fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    list::<NAME, u8, D>(from)
}

/// Reads a path.
pub fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    list::<PATH, u8, D>(from)
}

/// Reads a path, if it is known.
pub fn known_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    Ok(Option::<List<u8, PATH>>::deserialize(from)?.map(|it| it.0))
}

/// Reads the name of a function or of its file, if it is known.
pub fn known_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Text<PATH>>::deserialize(from)?.map(|it| it.0))
}

/// Reads a fault rule, as it was written.
pub fn rule<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Text::<RULE>::deserialize(from).map(|it| it.0)
}

/// Reads a word or a sentence that aiotrace writes.
pub fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'static, str>, D::Error> {
    Text::<TEXT>::deserialize(from).map(|it| it.0.into())
}

/// Reads a name that is always there.
pub fn string<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Text::<PATH>::deserialize(from).map(|it| it.0)
}

/// Reads a short list of words or sentences.
pub fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Cow<'static, str>>, D::Error> {
    let texts = list::<FEW, Text<TEXT>, D>(from)?;
    Ok(texts.into_iter().map(|it| it.0.into()).collect())
}

/// Cuts a name to the length that a recording may have.
pub fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_too_long_is_refused_whatever_it_says_of_its_length() {
        let read = |bytes: &[u8]| postcard::from_bytes::<List<u8, 3>>(bytes).map(|it| it.0).ok();
        assert_eq!(read(&[3, 1, 2, 3]), Some(vec![1, 2, 3]));
        assert_eq!(read(&[4, 1, 2, 3, 4]), None);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), None);
        let json = |text: &str| serde_json::from_str::<List<u8, 3>>(text).map(|it| it.0).ok();
        assert_eq!(json("[1,2,3]"), Some(vec![1, 2, 3]));
        assert_eq!(json("[1,2,3,4]"), None);
    }

    #[test]
    fn a_name_is_cut_between_its_characters() {
        let mut name = "größe".to_owned();
        cut(&mut name, 3);
        assert_eq!(name, "gr");
    }
}
