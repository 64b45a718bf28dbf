//! The built-in dialect files, in the order they are asked: the particular before those whose text they share.

macro_rules! files {
    ($($name:literal)*) => {
        /// Path and text of each.
        pub(super) const FILES: &[(&str, &str)] =
            &[$((concat!("parsers/dsn/", $name, ".toml"), include_str!(concat!("../../../parsers/dsn/", $name, ".toml")))),*];
    };
}

files! {
    "vpopmail"
    "qmail"
    "mailru"
    "gmx"
    "zoho"
    "1und1"
    "exim"
    "yandex"
    "postfix"
    "sendmail5"
    "sendmail"
    "exchange2003"
    "office365"
    "exchange2007"
    "domino"
    "notes"
    "courier"
    "googlegroups"
    "google"
    "yahoo"
    "amazonses"
    "mimecast"
    "messagelabs"
    "barracuda"
    "surfcontrol"
    "mcafee"
    "imail"
    "interscan"
    "mailfoundry"
    "mailmarshal"
    "messagingserver"
    "biglobe"
    "ezweb"
    "mfilter"
    "opensmtpd"
    "dma"
    "james"
    "communigate"
    "general"
}
