#!/bin/sh
# Brings the scripts and styles that package-lock.json names into the folder from which they are served. Done once for each lock.
set -eu
cd "$(dirname "$0")/.."
vendor=src/ballast/mall/web/static/vendor
stamp="$vendor/.ready-$(cat package-lock.json scripts/assets.sh | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0

die() { echo "assets: $1" >&2; exit 1; }
command -v npm >/dev/null 2>&1 || die "npm is not here. Install Node.js 20 or newer with npm (Debian: apt-get install nodejs npm) and run the same command again."

echo "assets: fetching the locked scripts and styles of the pages (once)"
mkdir -p .venv
npm ci --ignore-scripts --omit=optional --no-audit --no-fund >.venv/assets.log 2>&1 ||
    { tail -n 20 .venv/assets.log >&2; die "npm could not install them; the whole log is in .venv/assets.log"; }

rm -rf "$vendor"
mkdir -p "$vendor/fonts"
cp node_modules/htmx.org/dist/htmx.min.js node_modules/weui/dist/style/weui.min.css "$vendor/"
cp node_modules/@tabler/core/dist/css/tabler.min.css node_modules/@tabler/core/dist/js/tabler.min.js "$vendor/"
cp node_modules/@tabler/icons-webfont/dist/tabler-icons.min.css "$vendor/"
cp node_modules/@tabler/icons-webfont/dist/fonts/tabler-icons.woff2 "$vendor/fonts/"
cp node_modules/swagger-ui-dist/swagger-ui-bundle.js node_modules/swagger-ui-dist/swagger-ui.css "$vendor/"
cp node_modules/chart.js/dist/chart.umd.js node_modules/sortablejs/Sortable.min.js "$vendor/"
touch "$stamp"
