//! Which host answers for a product in a region.
//!
//! A region reaches a host name only after it passed a strict pattern, because regions come from users'
//! objects and a host name decides where signed requests go. Nothing is resolved or contacted here.

use std::collections::BTreeMap;

use reqwest::Url;

use super::error::{Error, local};
use super::request::Service;

/// Which network the operator stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Endpoints on the internet.
    #[default]
    Public,
    /// Endpoints inside a VPC; each serves its own region only. RAM has none, so its public one is used.
    Vpc,
}

/// How endpoints are chosen: one override for all, else one per product, else the documented rule.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    everything: Option<Url>,
    products: BTreeMap<Service, Url>,
    network: Network,
}

/// Hosts of regions that break the rule `ecs.<region>.aliyuncs.com`, from the endpoint map of
/// alibabacloud-ecs20140526 7.11.8 (regions that customers can use).
const ECS_HOSTS: [(&str, &str); 10] = [
    ("cn-hangzhou", "ecs-cn-hangzhou.aliyuncs.com"),
    ("cn-shanghai-finance-1", "ecs-cn-hangzhou.aliyuncs.com"),
    ("cn-shenzhen-finance-1", "ecs-cn-hangzhou.aliyuncs.com"),
    ("cn-north-2-gov-1", "ecs.aliyuncs.com"),
    ("ap-northeast-2-pop", "ecs.aliyuncs.com"),
    ("cn-beijing-finance-pop", "ecs.aliyuncs.com"),
    ("cn-beijing-gov-1", "ecs.aliyuncs.com"),
    ("cn-hangzhou-finance", "ecs.aliyuncs.com"),
    ("cn-hongkong-finance-pop", "ecs.aliyuncs.com"),
    ("rus-west-1-pop", "ecs.aliyuncs.com"),
];

impl Endpoints {
    /// Takes overrides as text, for example `http://127.0.0.1:8080` or `https://kms.internal.example`.
    ///
    /// Errors: class Invalid, `Local.InvalidEndpoint`, if a text is not an http(s) address without path,
    /// query and user.
    pub fn new(
        everything: Option<&str>,
        products: &BTreeMap<Service, String>,
        network: Network,
    ) -> Result<Endpoints, Error> {
        let everything = everything.map(parse_override).transpose()?;
        let products = products
            .iter()
            .map(|(service, text)| Ok((*service, parse_override(text)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Endpoints { everything, products, network })
    }

    /// True if one address serves every region of a product.
    pub fn is_overridden(&self, service: Service) -> bool {
        self.everything.is_some() || self.products.contains_key(&service)
    }

    /// The address for one product in one region; global products ignore the region unless it is needed for a
    /// VPC.
    ///
    /// Errors: class Invalid, `Local.InvalidRegion`.
    pub fn url(&self, service: Service, region: &str, action: &'static str) -> Result<Url, Error> {
        if !region.is_empty() || matches!(service, Service::Ecs | Service::Kms) {
            check_region(service, action, region)?;
        }
        if let Some(url) = self.products.get(&service).or(self.everything.as_ref()) {
            return Ok(url.clone());
        }
        let host = self.host(service, region);
        Url::parse(&format!("https://{host}/"))
            .map_err(|_| invalid_region(service, action, "the region makes no valid host name"))
    }

    /// True if every request goes to this machine, so that a proxy of the environment must not be asked.
    pub(crate) fn all_loopback(&self) -> bool {
        self.everything.iter().chain(self.products.values()).all(is_loopback)
            && (self.everything.is_some() || self.products.len() == Service::ALL.len())
    }

    fn host(&self, service: Service, region: &str) -> String {
        let name = service.name();
        match (service, self.network) {
            (Service::Ram, _) => "ram.aliyuncs.com".to_owned(),
            (Service::Sts, _) if region.is_empty() => "sts.aliyuncs.com".to_owned(),
            (_, Network::Vpc) => format!("{name}-vpc.{region}.aliyuncs.com"),
            (Service::Ecs, Network::Public) => match ECS_HOSTS.iter().find(|known| known.0 == region) {
                Some((_, host)) => (*host).to_owned(),
                None => format!("ecs.{region}.aliyuncs.com"),
            },
            (Service::Kms | Service::Sts, Network::Public) => format!("{name}.{region}.aliyuncs.com"),
        }
    }
}

/// True for text that can be a region id: lower-case words and digits joined by single hyphens, 4 to 40
/// characters.
pub fn is_region(text: &str) -> bool {
    const LENGTH: std::ops::RangeInclusive<usize> = 4..=40;
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    LENGTH.contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.contains('-')
        && text.split('-').all(word)
}

/// Checks a region before it is used. Errors: class Invalid, definite, `Local.InvalidRegion`.
pub(crate) fn check_region(service: Service, action: &'static str, region: &str) -> Result<(), Error> {
    if is_region(region) {
        return Ok(());
    }
    Err(invalid_region(service, action, "the region is not a region id such as cn-hangzhou"))
}

fn invalid_region(service: Service, action: &'static str, text: &str) -> Error {
    Error::local(service, action, local::INVALID_REGION, text)
}

/// Checks the text of an override. Errors: class Invalid, definite, `Local.InvalidEndpoint`.
pub fn check_override(text: &str) -> Result<(), Error> {
    parse_override(text).map(drop)
}

fn parse_override(text: &str) -> Result<Url, Error> {
    let refuse = |reason: &str| Error::local(None, "Configure", local::INVALID_ENDPOINT, reason);
    let url = Url::parse(text).map_err(|_| refuse("an endpoint override is not an address"))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if plain {
        Ok(url)
    } else {
        Err(refuse("an endpoint override must be http(s)://HOST[:PORT] and no more"))
    }
}

/// True for the address of something on this machine, such as a simulated cloud.
pub fn is_on_this_machine(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(endpoints: &Endpoints, service: Service, region: &str) -> String {
        let url = endpoints.url(service, region, "Test").expect("a valid region");
        assert_eq!(url.scheme(), "https");
        url.host_str().expect("a host").to_owned()
    }

    #[test]
    fn public_and_vpc_hosts_follow_the_documented_rules() {
        let public = Endpoints::default();
        assert_eq!(host(&public, Service::Ecs, "cn-hangzhou"), "ecs-cn-hangzhou.aliyuncs.com");
        assert_eq!(host(&public, Service::Ecs, "cn-beijing"), "ecs.cn-beijing.aliyuncs.com");
        assert_eq!(host(&public, Service::Kms, "eu-central-1"), "kms.eu-central-1.aliyuncs.com");
        assert_eq!(host(&public, Service::Ram, ""), "ram.aliyuncs.com");
        assert_eq!(host(&public, Service::Sts, ""), "sts.aliyuncs.com");
        let inside = Endpoints { network: Network::Vpc, ..Endpoints::default() };
        assert_eq!(host(&inside, Service::Ecs, "cn-hangzhou"), "ecs-vpc.cn-hangzhou.aliyuncs.com");
        assert_eq!(host(&inside, Service::Kms, "cn-beijing"), "kms-vpc.cn-beijing.aliyuncs.com");
        assert_eq!(host(&inside, Service::Ram, ""), "ram.aliyuncs.com");
        assert_eq!(host(&inside, Service::Sts, "cn-beijing"), "sts-vpc.cn-beijing.aliyuncs.com");
    }

    #[test]
    fn a_region_cannot_choose_another_host() {
        let endpoints = Endpoints::default();
        let too_long = format!("cn-{}", "a".repeat(38));
        let strange = [
            "",
            "cn",
            "cn-",
            "-cn",
            "cn--a",
            "CN-hangzhou",
            "cn-hangzhou.evil.example",
            "cn-a/../b",
            "cn-a#",
            "cn-a@b",
            "cn-a:80",
            "cn-a b",
            "cn-a\n",
            "cn-ü",
            "127.0.0.1",
            "1-cn",
            too_long.as_str(),
        ];
        for region in strange {
            for service in [Service::Ecs, Service::Kms] {
                let error = endpoints.url(service, region, "Test").expect_err(region);
                assert_eq!(error.code, local::INVALID_REGION);
                assert!(error.definite());
            }
        }
        for region in ["cn-hangzhou", "us-west-1", "cn-north-2-gov-1", "me-central-1", "rus-west-1"] {
            assert!(is_region(region), "{region}");
        }
    }

    #[test]
    fn a_products_override_wins_over_the_one_for_all() {
        let products = BTreeMap::from([(Service::Kms, "https://kms.example".to_owned())]);
        let everything = Some("http://127.0.0.1:9");
        let endpoints = Endpoints::new(everything, &products, Network::Public).expect("valid");
        let url = |service| endpoints.url(service, "cn-hangzhou", "Test").expect("valid").to_string();
        assert_eq!(url(Service::Kms), "https://kms.example/");
        assert_eq!(url(Service::Ecs), "http://127.0.0.1:9/");
        assert!(!endpoints.all_loopback());
        let local = Endpoints::new(everything, &BTreeMap::new(), Network::Public).expect("valid");
        assert!(local.all_loopback());
        assert!(local.url(Service::Ecs, "not a region", "Test").is_err());
        let strange = [
            "",
            "ftp://a",
            "http://u:p@a/",
            "http://a/path",
            "http://a/?q",
            "a:80",
            "http://",
            "http://a/#f",
        ];
        for text in strange {
            assert!(Endpoints::new(Some(text), &BTreeMap::new(), Network::Public).is_err(), "{text}");
        }
    }
}
