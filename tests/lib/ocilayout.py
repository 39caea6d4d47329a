# SPDX-License-Identifier: Apache-2.0
"""Images of layers as other tools write them: OCI layouts and docker archives, good and hostile."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def entry(name, data=b"", type=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = type, len(data), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name, mode=0o755, **fields):
    return entry(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name, to):
    return entry(name, type=tarfile.SYMTYPE, linkname=to, mode=0o777)


def hardlink(name, to):
    return entry(name, type=tarfile.LNKTYPE, linkname=to)


def tar_of(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pack(tar, kind):
    if kind == "gzip":
        return gzip.compress(tar, mtime=0)
    if kind == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=tar, capture_output=True, check=True).stdout
    return tar


class Image:
    """Blobs by digest, and the descriptor of the manifest."""

    def __init__(self, layers, config=None, arch="amd64", packed="gzip", os="linux", diff_ids=None):
        self.blobs = {}
        self.layers = [tar_of(*l) if isinstance(l, (list, tuple)) else l for l in layers]
        self.config = {"architecture": arch, "os": os, "config": config or {},
                       "rootfs": {"type": "layers",
                                  "diff_ids": diff_ids or [sha256(t) for t in self.layers]}}
        suffix = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[packed]
        self.manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                         "config": self.put(json.dumps(self.config).encode(), CONFIG),
                         "layers": [self.put(pack(t, packed), LAYER + suffix) for t in self.layers]}
        self.descriptor = self.put(json.dumps(self.manifest).encode(), MANIFEST)

    def put(self, data, media_type):
        self.blobs[sha256(data)] = data
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    def index(self, *others, tag=None, platform=True):
        """An index of this image and descriptors of others."""
        d = dict(self.descriptor)
        if platform:
            d["platform"] = {"os": "linux", "architecture": self.config["architecture"]}
        if tag:
            d["annotations"] = {"org.opencontainers.image.ref.name": tag}
        return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, d]}

    def layout(self, path, index=None):
        """Writes an OCI image layout."""
        blobs = path / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for digest, data in self.blobs.items():
            (blobs / digest[7:]).write_bytes(data)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (path / "index.json").write_text(json.dumps(index or self.index()))
        return path

    def layout_tar(self, path):
        return tar_of(directory("blobs"), directory("blobs/sha256"),
                      entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                      entry("index.json", json.dumps(self.index()).encode()),
                      *(entry(f"blobs/sha256/{d[7:]}", b) for d, b in self.blobs.items()))

    def docker_tar(self, tag="some:latest"):
        """What `docker save` has written since its first days: no digest of any layer."""
        config = json.dumps(self.config).encode()
        names = [f"{i:064x}/layer.tar" for i in range(len(self.layers))]
        manifest = [{"Config": sha256(config)[7:] + ".json", "RepoTags": [tag], "Layers": names}]
        return tar_of(entry(sha256(config)[7:] + ".json", config),
                      *(entry(n, t) for n, t in zip(names, self.layers)),
                      entry("manifest.json", json.dumps(manifest).encode()))
