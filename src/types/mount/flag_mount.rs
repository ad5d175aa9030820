//! `--mount type=…,source=…,target=…,…`: comma-separated values (RFC 4180) of
//! keys, so that a path with a comma can be quoted.

use super::flag_tmpfs::{TmpfsWords, with_defaults};
use super::{MountOptions, MountSource, MountSpec, Propagation, clean_target, host_path};
use crate::error::{Error, Result};
use crate::types::boolean;
use crate::types::csv::split_fields;
use crate::types::env::parse_label;
use crate::types::id::check_name;
use crate::types::volume_options::VolumeKind;
use std::path::Path;

/// One `--mount`; relative sources of binds are taken from `working_dir`.
///
/// # Errors
/// `Invalid`, naming the flag's whole value and the key at fault.
pub(crate) fn parse_mount(text: &str, working_dir: &Path) -> Result<MountSpec> {
    let keys = || -> Result<MountSpec> {
        let mut fields = Fields::default();
        for field in split_fields(text)? {
            fields.add(&field)?;
        }
        fields.finish(working_dir)
    };
    keys().map_err(|error| error.context(format!("invalid mount {text:?}")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Bind,
    Volume,
    Tmpfs,
    Image,
}

/// The keys of one flag as far as they have been read.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<Type>,
    source: Option<String>,
    target: Option<String>,
    options: MountOptions,
    /// Where it was said; an image is read-only by itself.
    read_only: Option<bool>,
    tmpfs: TmpfsWords,
    /// Whether a source of the host's is made where it is missing.
    create_source: bool,
    /// Keys that only some types have.
    special: Vec<(&'static [Type], String)>,
}

impl Fields {
    fn add(&mut self, field: &str) -> Result<()> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let key = key.trim().to_ascii_lowercase();
        let need = || match value {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(Error::invalid(format!("{key} has no value"))),
        };
        let flag = || value.map_or(Ok(true), |value| boolean::parse(&key, value));
        match key.as_str() {
            "type" => self.kind = Some(parse_type(need()?)?),
            "source" | "src" => self.source = Some(need()?.to_owned()),
            "target" | "destination" | "dst" => self.target = Some(clean_target(need()?)?),
            "readonly" | "ro" => self.read_only = Some(flag()?),
            "rw" | "readwrite" => self.read_only = Some(!flag()?),
            "exec" => self.options.noexec = Some(!flag()?),
            "noexec" => self.options.noexec = Some(flag()?),
            "suid" => self.options.nosuid = Some(!flag()?),
            "nosuid" => self.options.nosuid = Some(flag()?),
            "dev" => self.options.nodev = Some(!flag()?),
            "nodev" => self.options.nodev = Some(flag()?),
            // Labels of SELinux and caches of virtual machines: neither is here.
            "consistency" | "relabel" | "z" => {}
            _ => self.add_special(&key, value)?,
        }
        Ok(())
    }

    /// The keys that do not belong to each type.
    fn add_special(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let need = || match value {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(Error::invalid(format!("{key} has no value"))),
        };
        let flag = || value.map_or(Ok(true), |value| boolean::parse(key, value));
        let kinds: &[Type] = match key {
            "u" | "chown" => {
                self.options.chown = flag()?;
                &[Type::Bind, Type::Volume, Type::Tmpfs]
            }
            "bind-propagation" => {
                let value = need()?;
                self.options.propagation = Propagation::parse(value)
                    .ok_or_else(|| Error::invalid(format!("invalid value {value:?} of {key}")))?;
                &[Type::Bind]
            }
            "bind-nonrecursive" => {
                self.options.non_recursive = flag()?;
                &[Type::Bind]
            }
            "bind-recursive" => {
                self.options.non_recursive = match need()? {
                    // With ro, mounts below the source become read-only too.
                    "enabled" | "readonly" => false,
                    "disabled" => true,
                    "writable" => {
                        return Err(Error::invalid("bind-recursive=writable is not known here").hint(
                            "mounts below a read-only source are read-only too; without ro all are writable",
                        ));
                    }
                    other => {
                        return Err(Error::invalid(format!("invalid value {other:?} of {key}"))
                            .hint("it is enabled, disabled or readonly"));
                    }
                };
                &[Type::Bind]
            }
            "volume-nocopy" => {
                self.options.no_copy = flag()?;
                &[Type::Volume]
            }
            "volume-subpath" | "image-subpath" | "subpath" => {
                self.options.subpath = Some(clean_subpath(need()?)?);
                match key {
                    "volume-subpath" => &[Type::Volume],
                    "image-subpath" => &[Type::Image],
                    _ => &[Type::Volume, Type::Image],
                }
            }
            "volume-driver" => {
                let driver = need()?;
                if driver != "local" {
                    return Err(Error::invalid(format!("there is no volume driver {driver:?}"))
                        .hint("the only one is local"));
                }
                &[Type::Volume]
            }
            "volume-opt" => {
                let (name, value) = need()?.split_once('=').ok_or_else(|| {
                    Error::invalid("volume-opt is no pair").hint("write it as volume-opt=KEY=VALUE")
                })?;
                self.options.volume_options.insert(name.to_owned(), value.to_owned());
                &[Type::Volume]
            }
            "volume-label" => {
                let (name, value) = parse_label(need()?)?;
                self.options.volume_labels.insert(name, value);
                &[Type::Volume]
            }
            "bind-create-src" => {
                self.create_source = flag()?;
                &[Type::Bind]
            }
            "tmpfs-size" | "tmpfs-mode" => {
                need()?;
                self.tmpfs.add(&key["tmpfs-".len()..], value).map_err(|error| error.context(key))?;
                &[Type::Tmpfs]
            }
            _ if self.tmpfs.add(key, value)? => &[Type::Tmpfs],
            _ => return Err(Error::invalid(format!("unknown key {key:?}"))),
        };
        self.special.push((kinds, key.to_owned()));
        Ok(())
    }

    fn finish(mut self, working_dir: &Path) -> Result<MountSpec> {
        let kind = self.kind.unwrap_or(Type::Volume);
        if let Some((_, key)) = self.special.iter().find(|(of, _)| !of.contains(&kind)) {
            return Err(Error::invalid(format!("{key} does not belong to this type of mount")));
        }
        let target = self.target.ok_or_else(|| Error::invalid("a target is missing"))?;
        VolumeKind::parse(&self.options.volume_options).map_err(|error| error.context("volume-opt"))?;
        self.options.by_mount = true;
        self.options.read_only = self.read_only.unwrap_or(kind == Type::Image);
        let (source, options) = match (kind, self.source) {
            (Type::Bind, None) => return Err(Error::invalid("a bind mount needs a source")),
            (Type::Bind, Some(path)) if path.starts_with(['/', '.']) => (
                MountSource::Bind { path: host_path(&path, working_dir)?, create: self.create_source },
                self.options,
            ),
            (Type::Bind, Some(path)) => {
                return Err(Error::invalid(format!("the source {path:?} is not an absolute path")));
            }
            (Type::Volume, None) => (MountSource::Anonymous, self.options),
            (Type::Volume, Some(name)) => {
                check_name("volume", &name)
                    .map_err(|error| error.hint("a path of the host needs type=bind".to_owned()))?;
                (MountSource::Volume { name }, self.options)
            }
            (Type::Tmpfs, Some(_)) => return Err(Error::invalid("a tmpfs has no source")),
            (Type::Tmpfs, None) => (self.tmpfs.source(), with_defaults(self.options)),
            (Type::Image, None) => {
                return Err(Error::invalid("an image mount needs the image as its source"));
            }
            (Type::Image, Some(reference)) => {
                (MountSource::Image { reference, id: None, layers: Vec::new() }, self.options)
            }
        };
        Ok(MountSpec { source, target, options })
    }
}

fn parse_type(text: &str) -> Result<Type> {
    match text.to_ascii_lowercase().as_str() {
        "bind" => Ok(Type::Bind),
        "volume" => Ok(Type::Volume),
        "tmpfs" => Ok(Type::Tmpfs),
        "image" => Ok(Type::Image),
        _ => Err(Error::invalid(format!("unknown type {text:?}"))
            .hint("a mount is a bind, a volume, a tmpfs or an image")),
    }
}

/// A directory inside a volume or image: relative, and nowhere else.
fn clean_subpath(text: &str) -> Result<String> {
    if text.starts_with('/') || text.contains('\0') || text.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!("the subpath {text:?} leads out of it")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::mount::TmpfsMore;

    fn mount(text: &str) -> Result<MountSpec> {
        parse_mount(text, Path::new("/here"))
    }

    #[test]
    fn types_and_keys_are_understood() {
        let bind =
            mount("type=bind,src=./a,dst=/b,ro,bind-propagation=rshared,bind-nonrecursive,U").expect("valid");
        assert_eq!(bind.source, MountSource::Bind { path: "/here/a".into(), create: false });
        assert!(bind.options.read_only && bind.options.non_recursive && bind.options.chown);
        assert_eq!(bind.options.propagation, Propagation::RShared);

        let volume = mount("source=data,target=/b,readonly=false,volume-nocopy=true,volume-subpath=x/y")
            .expect("valid");
        assert_eq!(volume.source, MountSource::Volume { name: "data".into() });
        assert!(volume.options.no_copy && !volume.options.read_only);
        assert_eq!(volume.options.subpath.as_deref(), Some("x/y"));
        assert_eq!(mount("target=/b").expect("valid").source, MountSource::Anonymous);

        let tmpfs = mount("type=tmpfs,destination=/b,tmpfs-size=1m,tmpfs-mode=700").expect("valid");
        let more = TmpfsMore::default();
        assert_eq!(tmpfs.source, MountSource::Tmpfs { size: Some(1 << 20), mode: Some(0o700), more });
        let copied = mount("type=tmpfs,dst=/b,tmpcopyup,uid=5").expect("valid").source;
        let more = TmpfsMore { copy_up: true, uid: Some(5), ..TmpfsMore::default() };
        assert_eq!(copied, MountSource::Tmpfs { size: None, mode: None, more });
        let made = mount("type=bind,src=/a,dst=/b,bind-create-src,bind-recursive=readonly").expect("valid");
        assert_eq!(made.source, MountSource::Bind { path: "/a".into(), create: true });
        mount("type=volume,src=v,dst=/b,volume-driver=local").expect("valid");
        assert_eq!(tmpfs.options.noexec, Some(true));
    }

    #[test]
    fn an_image_is_read_only_unless_asked_otherwise() {
        let image = mount("type=image,source=tools:1,target=/opt/tools,image-subpath=usr").expect("valid");
        let reference = "tools:1".to_owned();
        assert_eq!(image.source, MountSource::Image { reference, id: None, layers: Vec::new() });
        assert_eq!((image.options.read_only, image.options.subpath.as_deref()), (true, Some("usr")));
        assert!(!mount("type=image,src=x,dst=/b,rw=true").expect("valid").options.read_only);
        assert!(!mount("type=image,src=x,dst=/b,ro=false,subpath=y").expect("valid").options.read_only);
    }

    #[test]
    fn a_quoted_field_may_have_commas_and_quotes() {
        let spec = mount(r#"type=bind,"src=/a,""b""",dst=/c:d"#).expect("valid");
        assert_eq!(spec.source, MountSource::Bind { path: r#"/a,"b""#.into(), create: false });
        assert_eq!(spec.target, "/c:d");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for (bad, word) in [
            ("", "empty"),
            ("type=bind,src=/a", "target"),
            ("type=bind,dst=/a", "source"),
            ("type=bind,src=a,dst=/b", "absolute"),
            ("type=bind,src=/a,dst=b", "absolute"),
            ("type=bind,src=/a,dst=/b,wat=1", "wat"),
            ("type=bind,src=/a,dst=/b,ro=maybe", "ro"),
            ("type=bind,src=/a,dst=/b,bind-propagation=x", "bind-propagation"),
            ("type=bind,src=/a,dst=/b,tmpfs-size=1", "tmpfs-size"),
            ("type=volume,src=/a,dst=/b", "name"),
            ("type=volume,src=v,dst=/b,subpath=../x", "subpath"),
            ("type=volume,src=v,dst=/b,subpath=/x", "subpath"),
            ("type=tmpfs,src=v,dst=/b", "source"),
            ("type=tmpfs,dst=/b,tmpfs-mode=8", "tmpfs-mode"),
            ("type=volume,src=v,dst=/b,volume-driver=nfs", "nfs"),
            ("type=volume,src=v,dst=/b,volume-opt=type=nfs", "volume-opt"),
            ("type=bind,src=/a,dst=/b,ro,bind-recursive=writable", "writable"),
            ("type=bind,src=/a,dst=/b,uid=5", "uid"),
            ("type=image,dst=/b", "image"),
            ("type=image,src=v,dst=/b,U", "u does not"),
            ("type=image,src=v,dst=/b,volume-subpath=x", "volume-subpath"),
            ("type=volume,src=v,dst=/b,image-subpath=x", "image-subpath"),
            ("type=npipe,src=v,dst=/b", "npipe"),
            ("type=bind,src=,dst=/b", "src"),
            ("\"type=bind", "quote"),
            ("\"type=bind\"x", "comma"),
        ] {
            let error = mount(bad).expect_err(bad).to_string();
            assert!(error.starts_with("invalid mount") && error.contains(word), "{bad}: {error}");
        }
    }
}
