"""Re-exports what the routes and the console use of LiteLLM, because rooms above do not import it themselves."""

from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS as LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy import proxy_server as proxy_server
from litellm.proxy._types import LiteLLMRoutes as LiteLLMRoutes
from litellm.proxy._types import LitellmUserRoles as LitellmUserRoles
from litellm.proxy._types import ProxyException as ProxyException
from litellm.proxy._types import UserAPIKeyAuth as UserAPIKeyAuth
from litellm.proxy._types import hash_token as hash_token
from litellm.proxy.auth.user_api_key_auth import api_key_header as api_key_header
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth as user_api_key_auth
