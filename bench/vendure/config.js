// Vendure 3 as its own template sets it up, with the dummy payment method; the database from the environment.
const { DefaultJobQueuePlugin, DefaultSearchPlugin, dummyPaymentHandler, DefaultLogger, LogLevel } = require('@vendure/core');
exports.config = {
  apiOptions: { port: Number(process.env.VENDURE_PORT), adminApiPath: 'admin-api', shopApiPath: 'shop-api' },
  authOptions: {
    tokenMethod: ['bearer', 'cookie'],
    superadminCredentials: { identifier: 'superadmin', password: 'superadmin' },
    cookieOptions: { secret: 'x' },
  },
  dbConnectionOptions: {
    type: 'postgres', host: process.env.VENDURE_DB_HOST, port: 5432, username: 'postgres', password: '', database: 'vendure',
    synchronize: true, logging: false, extra: { max: 20 },
  },
  paymentOptions: { paymentMethodHandlers: [dummyPaymentHandler] },
  importExportOptions: { importAssetsDir: 'node_modules/@vendure/create/assets/images' },
  customFields: {},
  logger: new DefaultLogger({ level: LogLevel.Warn }),
  plugins: [
    DefaultJobQueuePlugin.init({ useDatabaseForBuffer: true }),
    DefaultSearchPlugin.init({ bufferUpdates: false, indexStockStatus: false }),
  ],
};
