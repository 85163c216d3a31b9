//! Sections whose keys depend on one of them, such as `optimizer: {name: sgd, momentum: 0.9}`.
//!
//! serde's own `#[serde(tag = ...)]` buffers the whole section before it knows the variant, and with it goes the line
//! and column of every error inside. Here the keys are streamed as soon as the tag has been read; only those that stand
//! before the tag wait.

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess};
use serde::{Deserialize, de::DeserializeOwned};
use std::vec::IntoIter;

/// The keys of a section less its tag: those that came before it, then the rest of the stream.
pub struct Untagged<A> {
    early: IntoIter<(String, serde_json::Value)>,
    pending: Option<(String, serde_json::Value)>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> Untagged<A> {
    /// Reads up to the key `tag`: its value, and the other keys.
    pub fn read<T: DeserializeOwned>(tag: &'static str, mut map: A) -> Result<(T, Self), A::Error> {
        let mut early = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == tag {
                let variant = map.next_value()?;
                return Ok((variant, Self { early: early.into_iter(), pending: None, rest: map }));
            }
            early.push((key, map.next_value()?));
        }
        Err(Error::missing_field(tag))
    }

    /// The struct that holds the other keys.
    pub(super) fn body<T: Deserialize<'de>>(self) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(self))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Untagged<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some((key, value)) = self.early.next() else { return self.rest.next_key_seed(seed) };
        self.pending = Some((key.clone(), value));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.pending.take() {
            Some((key, value)) => seed.deserialize(value).map_err(|e| Error::custom(format_args!("`{key}`: {e}"))),
            None => self.rest.next_value_seed(seed),
        }
    }
}

/// Declares an enum that is written as one flat section: the tag, then the keys of the variant's struct.
#[macro_export]
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        pub enum $name:ident by $tag:literal ($tag_enum:ident) {
            $($(#[doc = $doc:literal])* $text:literal => $variant:ident($body:ty),)+
        }
    ) => {
        #[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(tag = $tag)]
        $(#[$meta])*
        pub enum $name {
            $($(#[doc = $doc])* #[serde(rename = $text)] $variant($body),)+
        }

        #[derive(serde::Deserialize)]
        enum $tag_enum {
            $(#[serde(rename = $text)] $variant,)+
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Section;
                impl<'de> serde::de::Visitor<'de> for Section {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "a section with the key `{}`", $tag)
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                        let (tag, rest) = $crate::tagged::Untagged::read::<$tag_enum>($tag, map)?;
                        match tag {
                            $($tag_enum::$variant => rest.body().map($name::$variant),)+
                        }
                    }
                }
                deserializer.deserialize_map(Section)
            }
        }

        impl garde::Validate for $name {
            type Context = ();

            fn validate_into(&self, ctx: &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
                match self {
                    $($name::$variant(body) => body.validate_into(ctx, parent, report),)+
                }
            }
        }
    };
}
