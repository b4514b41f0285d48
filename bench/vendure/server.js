const { bootstrap } = require('@vendure/core');
const { config } = require('./config');
bootstrap({ ...config, dbConnectionOptions: { ...config.dbConnectionOptions, synchronize: false } }).then(() => console.log('up'));
