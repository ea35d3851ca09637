#!/usr/bin/env bash
# Installs a wheel into a new environment of a Python and runs what a user runs first, without a
# network, a model hub or a GPU:
#
#     tools/release/try_wheel.sh python3.12 dist/negrefine-0.1.0-py3-none-any.whl [CONSTRAINTS]
#
# CONSTRAINTS are versions of the dependencies, such as what tools/release/lowest.sh prints; without
# it the newest ones are installed. Torch is that of constraints.txt.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$1 wheel=$(realpath "$2") constraints=${3:+$(realpath "$3")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
bin=$work/env/bin
torch=$(grep '^torch==' "$root/constraints.txt")
"$bin/python" -m pip install --quiet --disable-pip-version-check "$torch" \
    ${constraints:+--constraint "$constraints"} "$wheel[serve,report,http]"
cd "$work"
export OMP_NUM_THREADS=1 NEGREFINE_CACHE=$work/cache
"$bin/python" --version
"$bin/negrefine" --version
"$bin/python" -c 'import negrefine; [getattr(negrefine, name) for name in negrefine.__all__]'
printf 'tomato\nbanana\nlemon\n' > classes.txt
images=$("$bin/python" -c 'import negrefine, pathlib; print(pathlib.Path(negrefine.__file__).parent / "demo/images")')
"$bin/negrefine" fit --classes classes.txt --encoder builtin --min-frequency 20 \
    --calibrate "$images/food" --fpr 0.1 --out detector
"$bin/negrefine" score detector "$images/food" "$images/vehicles" --out scores.parquet --report page.html
"$bin/negrefine" explain detector "$images/vehicles" > explained.txt
"$bin/negrefine" card detector > card.md
"$bin/negrefine" evaluate --classes classes.txt --encoder builtin --min-frequency 20 \
    --id "$images/food" --ood vehicles="$images/vehicles" --methods mcm,negrefine --out results
echo "all well"
