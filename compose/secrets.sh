#!/bin/sh
# Makes the passwords of a compose stack, once: files in compose/secrets/, which git ignores.
#
# The folder is yours alone (0700). The files in it can be read by all, because the containers' users, which
# are not yours, read them through bind mounts; nobody else on this machine gets into the folder.
set -eu
cd "$(dirname "$0")"
[ -e secrets/writer.toml ] && {
  echo "compose/secrets exists; to make new passwords remove it, and the stack's volumes with it" >&2
  exit 0
}

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
sha256() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

umask 077
mkdir -p secrets
umask 022
cd secrets
writer=$(password)
reader=$(password)

writer_settings() { printf 'clickhouse_user = "writer"\nclickhouse_password = "%s"\n' "$writer"; }
reader_settings() { printf 'clickhouse_reader_user = "reader"\nclickhouse_reader_password = "%s"\n' "$reader"; }

# What ClickHouse knows: hashes alone.
cat >clickhouse_passwords.xml <<XML
<clickhouse>
  <writer_sha256>$(sha256 "$writer")</writer_sha256>
  <reader_sha256>$(sha256 "$reader")</reader_sha256>
</clickhouse>
XML
# Settings files (EGRESSLENS_CONFIG_FILE): for whoever reads, for whoever operates, for whoever writes.
reader_settings >reader.toml
{ writer_settings; reader_settings; } >operator.toml
printf %s "$reader" >clickhouse_reader_password
password >grafana_admin_password
printf 'admin:%s\n' "$(password)" >console_passwords
writer_settings >writer.toml # last: its presence says that all are there
echo "passwords are in compose/secrets: grafana_admin_password and console_passwords are for you" >&2
