"""Receptive fields and costs, call by call.

How a field is followed
=======================

`kc.analyze` does not run the network. It goes through the calls of a model in order and keeps a `TensorField` for each
tensor: which cells of the model's input each unit of that tensor sees. A cell is an index along an axis of the input, a
unit is an index along an axis of a tensor.

1. **The input** (`tensor_field.input_field`). Axis by axis, unit i sees cell i: each axis follows the input axis that it is.

2. **A call** (`propagation`). `registry` finds the rule of the layer or operation, from `layer_rules`, `op_rules`,
   `shape_op_rules` or `recurrent_rules`. Along one axis a rule is a `Taps`: a 3-kernel of stride 2 without padding is
   `Taps(step=2, offsets=((0, 1, 2),))`, because unit i reads the units 2i, 2i + 1 and 2i + 2 of its input.

3. **Along one input axis** (`axis_field.AxisField`). Reading through taps joins the intervals of the units that are read.
   There are two records of that. The theory: an endless sequence with a step and the intervals of one period. The cells:
   first and last visible cell of each unit of the real sequence, which ends, so that its units see less at the border.

4. **Everything at once** (`TensorField.read_all`). After a global pooling no axis follows the input any more: what was a
   local field becomes a global one, equal for all units. Squeeze-and-excitation leaves both: a local field, which moves
   with the unit, and a global one.

5. **Branches** (`merging`). A sum reads one unit of each tensor: the union of their fields. A concatenation puts sequences
   end to end.

6. **A reshape** (`TensorField.reshaped`) computes nothing, but afterwards one input axis may be spread over several axes of
   the tensor. So an axis is a product of parts (`axis_parts.AxisPart`), and each part says how far one unit of it advances
   along the sequence that follows the input axis. Six units become 3 x 2:

       before: axis 1 is one part, of size 6 and step 1

           axis 1      0  1  2  3  4  5

       after: axis 1 is a part of size 3 and step 2, axis 2 a part of size 2 and step 1

           axis 2      0  1
           axis 1   0  0  1
                    1  2  3        unit (a, b) is unit 2a + b of the sequence
                    2  4  5

   A layer that reads all of axis 2, as a convolution reads its channels, now sees two neighbouring cells, at stride 2:

       >>> from keras_cnn.analysis.fields.tensor_field import input_field
       >>> field = input_field((1, 6)).reshaped((1, 3, 2))
       >>> field.axes[1:]
       ((AxisPart(input_axis=0, size=3, step=2),), (AxisPart(input_axis=0, size=2, step=1),))
       >>> field.read_all([2]).local_fields[0].field
       Field(size=2, stride=2, padding=0)

   A reshape back to six units joins the parts again, and nothing is lost. If the new sizes do not split the parts evenly, it
   is no longer known which unit is which: the field becomes an upper bound (`bounded_along`).

7. **At the end** (`TensorField.by_position`) a unit is a position with all its channels, and one field along each spatial axis
   of the input is what a row of the analysis reports.

`costs` counts operations by the shapes alone; it needs no fields.
"""
