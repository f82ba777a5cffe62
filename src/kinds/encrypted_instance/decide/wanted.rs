//! What an EncryptedInstance asks for, as values that decisions and requests are made of.

/// What the object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Desired {
    /// The instance should exist.
    Present(Box<Wanted>),
    /// The object is being deleted.
    Absent {
        /// True if the instance goes with it.
        delete: bool,
        /// True if the object asks for protection from deletion.
        protect: bool,
    },
}

/// The instance that should exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Region of instance and keys.
    pub region: String,
    /// Zone of the instance.
    pub zone_id: String,
    /// Instance type.
    pub instance_type: String,
    /// The key of every disk that has none of its own.
    pub key: KeyChoice,
    /// What the system disk starts with.
    pub image: ImageChoice,
    /// The system disk; its name is empty.
    pub system: DiskWish,
    /// The data disks.
    pub data: Vec<DiskWish>,
    /// The vSwitch.
    pub vswitch_id: String,
    /// Security groups.
    pub security_group_ids: Vec<String>,
    /// RAM role of the instance.
    pub ram_role_name: Option<String>,
    /// SSH key pair.
    pub key_pair_name: Option<String>,
    /// Name and key of the Secret with the user data.
    pub user_data: Option<(String, String)>,
    /// True if the metadata service asks for a token.
    pub metadata_token: bool,
    /// True if the cloud should refuse to delete the instance.
    pub protect: bool,
    /// True if it should run.
    pub running: bool,
    /// Name in the console, if the object gives one.
    pub instance_name: Option<String>,
    /// Description in the console.
    pub description: Option<String>,
    /// The user's tags.
    pub tags: Vec<(String, String)>,
    /// Resource group.
    pub resource_group_id: Option<String>,
    /// The instance to take over instead of creating one.
    pub adopt: Option<String>,
    /// True if the operator may change the cloud.
    pub manage: bool,
    /// True if nothing is to be done.
    pub suspend: bool,
}

/// A key as the object names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyChoice {
    /// Id or alias, as the KMS API takes it.
    pub text: String,
    /// True for the service key.
    pub service: bool,
}

/// A disk that is made with the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskWish {
    /// Its name in the object.
    pub name: String,
    /// Category in the words of the ECS API.
    pub category: String,
    /// Performance level in the words of the ECS API.
    pub performance_level: Option<String>,
    /// Size in GiB.
    pub size_gib: u32,
    /// A key of its own.
    pub key: Option<KeyChoice>,
    /// True if it is deleted with the instance.
    pub delete_with_instance: bool,
}

/// What the system disk starts with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageChoice {
    /// An image of the region.
    Id(String),
    /// An object of the namespace that makes one.
    Object(String),
}

impl Default for ImageChoice {
    fn default() -> ImageChoice {
        ImageChoice::Id(String::new())
    }
}

impl Wanted {
    /// Every key that the object names, each once, that of the instance first.
    pub fn keys(&self) -> Vec<&KeyChoice> {
        let own = std::iter::once(&self.system).chain(&self.data).filter_map(|disk| disk.key.as_ref());
        let mut keys = vec![&self.key];
        own.for_each(|key| {
            if !keys.contains(&key) {
                keys.push(key);
            }
        });
        keys
    }
}
