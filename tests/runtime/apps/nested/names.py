"""Uses the runtime while the package itself is still being imported."""

import myservice.runtime

SERVICE = myservice.runtime.ServiceInfo("my-service", "1.0")
