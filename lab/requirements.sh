#!/bin/sh
# Write (or check) what each image installs, from the lock file: images/*/requirements.txt.
set -eu
cd "$(dirname "$0")/.."
mode=${1:-}
case $mode in write | check) ;; *) echo "usage: $0 write|check" >&2 && exit 2 ;; esac

export_() {
    lab/uv.sh export --frozen --quiet --no-header "$@"
}
status=0
for image in dask spark spark-client celery operator test; do
    file=images/$image/requirements.txt
    if [ $image = operator ]; then
        text=$(export_ --package trireme-operator --no-emit-project)
    else
        text=$(export_ --only-group image-$image)
    fi
    if [ "$mode" = write ]; then
        printf '%s\n' "$text" >"$file"
    elif [ "$text" != "$(cat "$file")" ]; then
        echo "$file is out of date: run \`make generate\`" >&2
        status=1
    fi
done
exit $status
