//! The shape of a type, found by asking serde to read one: no derive, no attribute.
//!
//! A deserializer that has no data notes what the type asks for. Where the type wants a value to go on, it gets the
//! smallest. An enum can be asked for one variant at a time only, so the type is read again until each variant of each
//! enum in it was seen, with its payload. Types that decide by the data what to read next show the shape of their smallest
//! value.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use crate::session::first_word;

/// How deep a type is followed; recursive types end here.
const MAX_DEPTH: usize = 24;
/// From this depth on, what may be absent is: recursive types come to their end.
const SHALLOW: usize = 10;
/// How much is noted in one reading; more does not tell types apart any better.
const MAX_NOTES: usize = 64 * 1024;
/// How often a type is read at most.
const MAX_READINGS: usize = 1024;

/// A 64-bit fingerprint of how `T` looks on the wire: names of types, fields and variants, primitive kinds, order.
pub(crate) fn fingerprint<T: DeserializeOwned>(extra: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    describe::<T>(|notes| _ = hasher.update(notes.as_bytes()));
    hasher.update(extra);
    first_word(hasher.finalize())
}

/// Hands out what was noted, reading by reading.
fn describe<T: DeserializeOwned>(mut each: impl FnMut(&str)) {
    let mut trace = Trace { notes: String::new(), depth: 0, enums: BTreeMap::new(), fresh: false };
    for reading in 0..MAX_READINGS {
        trace.notes.clear();
        trace.depth = 0;
        trace.fresh = false;
        // The outcome does not matter: what was asked for is noted.
        let _ = T::deserialize(&mut trace);
        if reading == 0 || trace.fresh {
            each(&trace.notes);
        }
        if trace.enums.values().flatten().all(|&tries| tries > 0) {
            return;
        }
    }
}

struct Trace {
    notes: String,
    depth: usize,
    /// By name and variants: how often each variant was chosen. Names, not addresses: two builds must agree.
    enums: BTreeMap<(&'static str, &'static [&'static str]), Vec<u32>>,
    /// Something was met in this reading that was not met before.
    fresh: bool,
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
        if self.depth >= SHALLOW {
            return visitor.visit_none();
        }
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
        let left = usize::from(self.depth < SHALLOW);
        self.nested(|trace| visitor.visit_seq(Elements { trace, names: None, left }))
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
        let left = usize::from(self.depth < SHALLOW);
        self.nested(|trace| visitor.visit_map(Elements { trace, names: None, left }))
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
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(format_args!("enum {variants:?}"))?;
        let tries = self.enums.entry((name, variants)).or_insert_with(|| vec![0; variants.len()]);
        // The one that was tried least; deep inside, the first, which by custom has the least in it.
        let least = tries.iter().enumerate().min_by_key(|(_, tries)| **tries).map_or(0, |(variant, _)| variant);
        let variant = if self.depth < SHALLOW { least } else { 0 };
        if let Some(tries) = tries.get_mut(variant) {
            self.fresh |= *tries == 0;
            *tries += 1;
        }
        self.note(format_args!("{variant}"))?;
        self.nested(|trace| visitor.visit_enum(Variant { trace, variant: variant as u32 }))
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

struct Variant<'a> {
    trace: &'a mut Trace,
    variant: u32,
}

impl<'de> de::EnumAccess<'de> for Variant<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        let variant: U32Deserializer<Stop> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
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

    fn notes<T: DeserializeOwned>() -> String {
        let mut all = String::new();
        describe::<T>(|notes| all.push_str(notes));
        all
    }

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
            notes::<Shot>(),
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
        assert_ne!(fingerprint::<one::T>(&[]), fingerprint::<other::T>(&[]));
        assert_ne!(fingerprint::<one::E>(&[]), fingerprint::<other::E>(&[]));
        assert_ne!(fingerprint::<u8>(&[]), fingerprint::<u16>(&[]));
    }

    #[test]
    fn recursive_types_have_a_shape_too() {
        #[derive(Serialize, Deserialize)]
        struct Tree {
            leaf: u8,
            children: Vec<Tree>,
            next: Option<Box<Tree>>,
        }
        assert!(notes::<Tree>().len() < 2 * MAX_NOTES);
        assert_eq!(fingerprint::<Tree>(&[]), fingerprint::<Tree>(&[]));
    }

    #[test]
    fn the_payload_of_every_variant_counts_also_of_enums_inside_enums() {
        macro_rules! game {
            ($name:ident, $deep:ty) => {
                mod $name {
                    #[derive(serde::Serialize, serde::Deserialize)]
                    pub(super) enum Inner {
                        A,
                        B(u8),
                        C { deep: $deep },
                    }
                    #[derive(serde::Serialize, serde::Deserialize)]
                    pub(super) enum Outer {
                        None,
                        One(Inner),
                        Two { x: f32, y: Option<Inner> },
                    }
                }
            };
        }
        game!(here, u32);
        game!(there, i32);
        game!(same, u32);
        assert_ne!(fingerprint::<here::Outer>(&[]), fingerprint::<there::Outer>(&[]));
        assert_eq!(fingerprint::<here::Outer>(&[]), fingerprint::<same::Outer>(&[]));
        assert_ne!(fingerprint::<here::Outer>(&[]), fingerprint::<here::Outer>(&[1]));
    }

    #[test]
    fn recursive_enums_come_to_an_end_and_what_follows_them_counts() {
        #[derive(Serialize, Deserialize)]
        enum Expression {
            Number(i32),
            Sum(Box<Expression>, Box<Expression>),
            List(Vec<Expression>),
        }
        #[derive(Serialize, Deserialize)]
        struct Short(Expression);
        #[derive(Serialize, Deserialize)]
        struct Long(Expression, u8);
        assert_eq!(fingerprint::<Short>(&[]), fingerprint::<Short>(&[]));
        assert_ne!(fingerprint::<Short>(&[]), fingerprint::<Long>(&[]));
    }
}
