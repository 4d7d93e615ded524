"""Orders and reports, as a strategy sees them."""

cimport cython

from ext.layout cimport ORDER_MARKET


@cython.final
@cython.auto_pickle(False)
cdef class Report:
    """A venue's or the risk gate's answer to an order.

    Codes are those of `data.schema`: ``report.kind == ReportKind.FILL``.
    """

    @property
    def client_order_id(self):
        return self.record.client_order_id

    @property
    def ts_ns(self):
        """The venue's clock."""
        return self.record.ts_ns

    @property
    def recv_ns(self):
        """Our clock at receipt."""
        return self.record.recv_ns

    @property
    def size_lots(self):
        """Filled, cancelled or refused by this report."""
        return self.record.size_lots

    @property
    def leaves_lots(self):
        """Still open at the venue after it."""
        return self.record.leaves_lots

    @property
    def price_ticks(self):
        return self.record.price_ticks

    @property
    def fee(self):
        """In the instrument's currency; negative is a rebate."""
        return <double>self.record.fee_nano * 1e-9

    @property
    def venue(self):
        return self.record.venue_id

    @property
    def side(self):
        """+1 for our buys, -1 for our sells."""
        return self.record.side

    @property
    def kind(self):
        return self.record.kind

    @property
    def reason(self):
        return self.record.reason

    @property
    def liquidity(self):
        return self.record.liquidity

    def __repr__(self):
        return (
            f"Report(kind={self.kind}, client_order_id={self.client_order_id:#x}, side={self.side}, "
            f"size_lots={self.size_lots}, price_ticks={self.price_ticks}, leaves_lots={self.leaves_lots}, "
            f"reason={self.reason})"
        )


@cython.final
@cython.auto_pickle(False)
cdef class Order:
    """An order of ours that may still fill, as far as we know.

    Attributes
    ----------
    leaves_lots : int
        Not yet filled, by the last report.
    accepted : bool
        The venue said that it rests.
    cancelling : bool
        A cancel is on its way.
    """

    @property
    def client_order_id(self):
        return self.command.client_order_id

    @property
    def side(self):
        return self.command.side

    @property
    def price_ticks(self):
        """Limit as last sent; None for a market order."""
        return None if self.command.order_type == ORDER_MARKET else self.command.price_ticks

    @property
    def size_lots(self):
        """As last sent."""
        return self.command.size_lots

    @property
    def venue(self):
        return self.command.venue_id

    @property
    def sent_ns(self):
        """Our clock when it was decided."""
        return self.command.ts_ns

    def __repr__(self):
        return (
            f"Order({self.client_order_id:#x}, side={self.side}, leaves_lots={self.leaves_lots}, "
            f"price_ticks={self.price_ticks}, venue={self.venue})"
        )
