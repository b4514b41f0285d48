"""``/pictures/<shop>/<hash>``: pictures as shoppers see them. Asks no database; a name never means something else later."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall.pictures import MEDIA_TYPE, Pictures
from ballast.mall.rules.pictures import WIDTHS, is_name, kept_width


# Without the CSRF cookie, so that a cache on the way may keep the answer.
@get("/pictures/{shop_id:uuid}/{picture:str}", opt={"exclude_from_csrf": True})
async def show(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    picture: FromPath[str],
    pictures: NamedDependency[Pictures],
) -> Response[bytes]:
    """A picture; ``?w=`` says how many pixels wide it has to be at least, and the next size that is kept is sent."""
    if not is_name(picture):
        raise NotFoundException
    asked = request.query_params.get("w", "")
    width = kept_width(int(asked)) if asked.isdecimal() and len(asked) < 6 else WIDTHS[0]
    tag = f'"{picture}-{width}"'
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers)
    data = await pictures.read(shop_id, picture, width)
    if data is None:
        raise NotFoundException
    return Response(data, media_type=MEDIA_TYPE, headers=headers)


def routes() -> list[ControllerRouterHandler]:
    """For `web.app.faces`."""
    return [show]
