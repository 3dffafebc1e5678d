// `node --import ./proxied.mjs`: fetch goes through the proxy of `https_proxy`, as it does by itself from Node 24 on with NODE_USE_ENV_PROXY=1.

import { createRequire } from "node:module";
import { join } from "node:path";

const { EnvHttpProxyAgent, setGlobalDispatcher } = createRequire(join(process.env.MODULES, "_"))("undici");
setGlobalDispatcher(new EnvHttpProxyAgent());
