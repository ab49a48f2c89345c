//! The shape of a type, found by asking serde to read one: no derive, no attribute.
//!
//! A deserializer that has no data notes what the type asks for. Where the type wants a value to go on, it gets the
//! smallest; enums are asked once for each variant. Types that decide by the data what to read next show the shape of
//! their smallest value.

use std::fmt::Write;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

/// How deep a type is followed; recursive types end here.
const MAX_DEPTH: usize = 24;
/// How much is noted; more does not tell types apart any better.
const MAX_NOTES: usize = 64 * 1024;

/// A 64-bit fingerprint of how `T` looks on the wire: names of types, fields and variants, primitive kinds, order.
pub(crate) fn fingerprint<T: DeserializeOwned>() -> u64 {
    let hash = blake3::hash(describe::<T>().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn describe<T: DeserializeOwned>() -> String {
    let mut trace = Trace { notes: String::new(), depth: 0 };
    // The outcome does not matter: what was asked for is noted.
    let _ = T::deserialize(&mut trace);
    trace.notes
}

struct Trace {
    notes: String,
    depth: usize,
}

#[derive(Debug)]
struct Stop;

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("shape")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Trace {
    fn note(&mut self, text: std::fmt::Arguments<'_>) -> Result<(), Stop> {
        if self.notes.len() > MAX_NOTES {
            return Err(Stop);
        }
        let _ = write!(self.notes, "{text} ");
        Ok(())
    }

    fn nested<R>(&mut self, inside: impl FnOnce(&mut Self) -> Result<R, Stop>) -> Result<R, Stop> {
        if self.depth == MAX_DEPTH {
            self.note(format_args!("..."))?;
            return Err(Stop);
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }
}

macro_rules! primitives {
    ($($method:ident $visit:ident $value:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.note(format_args!("{}", stringify!($visit)))?;
            visitor.$visit($value)
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Trace {
    type Error = Stop;

    primitives! {
        deserialize_bool visit_bool false;
        deserialize_i8 visit_i8 0;
        deserialize_i16 visit_i16 0;
        deserialize_i32 visit_i32 0;
        deserialize_i64 visit_i64 0;
        deserialize_i128 visit_i128 0;
        deserialize_u8 visit_u8 0;
        deserialize_u16 visit_u16 0;
        deserialize_u32 visit_u32 0;
        deserialize_u64 visit_u64 0;
        deserialize_u128 visit_u128 0;
        deserialize_f32 visit_f32 0.0;
        deserialize_f64 visit_f64 0.0;
        deserialize_char visit_char '0';
        deserialize_str visit_str "";
        deserialize_string visit_string String::new();
        deserialize_bytes visit_bytes &[];
        deserialize_byte_buf visit_byte_buf Vec::new();
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.note(format_args!("any"))?;
        Err(Stop)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.note(format_args!("ignored"))?;
        visitor.visit_unit()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_u32(0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.note(format_args!("option"))?;
        self.nested(|trace| visitor.visit_some(trace))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.note(format_args!("unit"))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        // On the wire a newtype is what it wraps.
        self.nested(|trace| visitor.visit_newtype_struct(trace))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.note(format_args!("seq"))?;
        self.nested(|trace| visitor.visit_seq(Elements { trace, names: None, left: 1 }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.note(format_args!("tuple {len}"))?;
        self.nested(|trace| visitor.visit_seq(Elements { trace, names: None, left: len }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.note(format_args!("map"))?;
        self.nested(|trace| visitor.visit_map(Elements { trace, names: None, left: 1 }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(format_args!("struct {}", fields.len()))?;
        self.nested(|trace| visitor.visit_seq(Elements { trace, names: Some(fields), left: fields.len() }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(format_args!("enum {variants:?}"))?;
        // A visitor can be asked for one variant only; the payloads of the others are told by their names and by the
        // number of variants. Most differences between two versions of a game show in these.
        self.nested(|trace| visitor.visit_enum(First { trace }))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements<'a> {
    trace: &'a mut Trace,
    names: Option<&'static [&'static str]>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        if let Some(names) = self.names {
            self.trace.note(format_args!("{}:", names[names.len() - self.left]))?;
        }
        self.left = left;
        seed.deserialize(&mut *self.trace).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(&mut *self.trace)
    }
}

struct First<'a> {
    trace: &'a mut Trace,
}

impl<'de> de::EnumAccess<'de> for First<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        let first: U32Deserializer<Stop> = 0u32.into_deserializer();
        Ok((seed.deserialize(first)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for First<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.trace.note(format_args!("unit"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.trace)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        de::Deserializer::deserialize_tuple(self.trace, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Stop> {
        de::Deserializer::deserialize_struct(self.trace, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[test]
    fn a_shape_names_fields_kinds_and_order() {
        #[derive(Serialize, Deserialize)]
        struct Inner(u16);
        #[derive(Serialize, Deserialize)]
        struct Shot {
            at: [f32; 2],
            by: Option<Inner>,
            note: String,
        }
        assert_eq!(
            describe::<Shot>(),
            "struct 3 at: tuple 2 visit_f32 visit_f32 by: option visit_u16 note: visit_string "
        );
    }

    #[test]
    fn another_field_kind_order_or_variant_is_another_shape() {
        mod one {
            #[derive(serde::Serialize, serde::Deserialize)]
            pub(super) struct T {
                a: u8,
                b: u8,
            }
            #[derive(serde::Serialize, serde::Deserialize)]
            pub(super) enum E {
                A,
                B(u8),
            }
        }
        mod other {
            #[derive(serde::Serialize, serde::Deserialize)]
            pub(super) struct T {
                b: u8,
                a: u8,
            }
            #[derive(serde::Serialize, serde::Deserialize)]
            pub(super) enum E {
                A,
                B(u8),
                C,
            }
        }
        assert_ne!(fingerprint::<one::T>(), fingerprint::<other::T>());
        assert_ne!(fingerprint::<one::E>(), fingerprint::<other::E>());
        assert_ne!(fingerprint::<u8>(), fingerprint::<u16>());
    }

    #[test]
    fn recursive_types_have_a_shape_too() {
        #[derive(Serialize, Deserialize)]
        struct Tree {
            leaf: u8,
            children: Vec<Tree>,
            next: Option<Box<Tree>>,
        }
        assert!(describe::<Tree>().len() < 2 * MAX_NOTES);
        assert_eq!(fingerprint::<Tree>(), fingerprint::<Tree>());
    }
}
