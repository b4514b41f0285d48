// Vendure's own example data.
const { populate } = require('@vendure/core/cli');
const { bootstrap } = require('@vendure/core');
const { config } = require('./config');
const initial = require('@vendure/create/assets/initial-data.json');
populate(() => bootstrap(config), initial, require.resolve('@vendure/create/assets/products.csv'))
  .then((app) => app.close())
  .then(() => process.exit(0))
  .catch((error) => { console.error(error); process.exit(1); });
