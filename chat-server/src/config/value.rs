//! The values that options take, from text and back.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::Database;
use crate::store::Durability;

/// Something that an option may be set to.
pub trait Value: Sized {
    /// The value that `text` says.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be read after the option's name.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as it is written in a file, with secrets hidden.
    fn show(&self) -> String;

    /// Whether it is in the option's range, for options that have one.
    fn is_within(&self, _: &RangeInclusive<u64>) -> bool {
        true
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("must be a whole number, not {text:?}"))
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn is_within(&self, range: &RangeInclusive<u64>) -> bool {
                u64::try_from(*self).is_ok_and(|number| range.contains(&number))
            }
        }
    )*};
}
numbers! { u32 u64 usize }

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("must be an address with a port, such as 127.0.0.1:6000, not {text:?}"))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// An address, or `off`.
impl Value for Option<SocketAddr> {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(None) } else { SocketAddr::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"off\"".into(), Value::show)
    }
}

/// A file; none when empty.
impl Value for Option<PathBuf> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn show(&self) -> String {
        format!("{:?}", self.as_deref().unwrap_or_else(|| "".as_ref()))
    }
}

impl Value for Database {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_url(text)
    }

    fn show(&self) -> String {
        format!("{:?}", self.to_string())
    }
}

/// Which bus.
#[derive(Clone, PartialEq, Eq)]
pub enum BusUrl {
    /// In this process: a single node.
    Local,
    /// Redis, by its URL.
    Redis(String),
}

impl Value for BusUrl {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            url if url.starts_with("redis://") || url.starts_with("rediss://") => Ok(Self::Redis(url.into())),
            _ => Err("is neither local nor redis://…".into()),
        }
    }

    fn show(&self) -> String {
        format!("{:?}", self.to_string())
    }
}

/// As a log may show it: no password.
impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(url) = self else { return f.write_str("local") };
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        // What stands before the last @ are user and password.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        write!(f, "{scheme}://{place}")
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Options that are one of a few words.
macro_rules! choices {
    ($($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        choices! { @value $type { $($variant = $word,)* } }
    )*};
    (@value $type:ident { $($variant:ident = $word:literal,)* }) => {
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("must be {}, not {text:?}", [$($word),*].join(" or "))),
                }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => concat!("\"", $word, "\"").into(),)* }
            }
        }
    };
}
choices! {
    /// What is stored.
    Delivery {
        /// Every message, before it is acknowledged.
        Durable = "durable",
        /// Messages to users who are offline, as the original does.
        Relay = "relay",
    }
    /// What a second login of the same user does.
    SecondLogin {
        /// It ends the first session.
        Displace = "displace",
        /// It is refused, as the original does.
        Refuse = "refuse",
    }
    /// On or off.
    Switch {
        /// On.
        On = "on",
        /// Off.
        Off = "off",
    }
    /// What log lines look like.
    LogFormat {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    }
}
choices! { @value Durability { PowerCut = "power-cut", Crash = "crash", } }
