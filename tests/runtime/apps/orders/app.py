from runtime import Application, Handler, Route

from .settings import Settings


class Prices(Handler):
    def get(self) -> None:
        assert isinstance(self.config, Settings)
        self.reply({"price_list": str(self.config.price_list)})


def make_app(settings: Settings) -> Application:
    return Application(settings, [Route("/prices", Prices)])
